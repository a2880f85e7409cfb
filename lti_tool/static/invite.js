// The course picker of the invitation form: searches as one types, tells courses apart by who teaches them.

const element = (tag, className, text) => {
  const made = document.createElement(tag);
  made.className = className;
  if (text) made.textContent = text;
  return made;
};

function picture(icons, option) {
  const thumb = element("span", "thumb");
  thumb.dataset.hue = option.hue;
  thumb.setAttribute("aria-hidden", "true");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "170 10 100 100");
  svg.setAttribute("preserveAspectRatio", "xMidYMid slice");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `${icons}#${option.cover}`);
  use.setAttribute("width", "320");
  use.setAttribute("height", "120");
  svg.append(use);
  thumb.append(svg);
  return thumb;
}

function dress(select) {
  if (select.tomselect) return;
  const { picker, prompt, empty, remove, icons } = select.dataset;
  new TomSelect(select, {
    plugins: { remove_button: { title: remove } },
    valueField: "value",
    labelField: "name",
    searchField: ["name", "people"],
    placeholder: prompt,
    hidePlaceholder: false,
    highlight: false,
    maxOptions: 200,
    closeAfterSelect: false,
    // What was typed has found its course; left standing it would say that there is none.
    onItemAdd() {
      this.setTextboxValue("");
      this.refreshOptions(false);
    },
    shouldLoad: (query) => query.length > 0,
    load: async (query, done) => {
      const answer = await fetch(`${picker}?${new URLSearchParams({ q: query })}`);
      done(answer.ok ? await answer.json() : []);
    },
    render: {
      option: (option) => {
        const row = element("div", "");
        row.append(picture(icons, option), element("span", "clip", option.name), element("span", "tag", option.state), element("small", "clip", option.people));
        return row;
      },
      item: (option) => {
        const item = element("div", "");
        item.append(element("span", "clip", option.name));
        return item;
      },
      no_results: () => element("div", "no-results", empty),
    },
  });
}

// The open list stands in the flow and closes when the pointer goes down elsewhere. What was aimed at must
// not slide away before the pointer is up, so the form keeps its height that long.
document.addEventListener("pointerdown", (event) => {
  const form = event.target.closest("form");
  if (!form?.querySelector(".ts-wrapper.dropdown-active")) return;
  const body = form.querySelector(".dialog-body, .sheet-body");
  body.style.minBlockSize = `${body.offsetHeight}px`;
  const release = () => setTimeout(() => body.style.removeProperty("min-block-size"), 60);
  document.addEventListener("pointerup", release, { once: true });
}, true);

// An address that was probably mistyped: one press takes over what was meant, and asks again whose it is.
document.addEventListener("click", (event) => {
  const meant = event.target.closest("[data-meant]");
  if (!meant) return;
  const field = document.getElementById(meant.dataset.for);
  field.value = meant.dataset.meant;
  field.focus();
  field.dispatchEvent(new Event("change", { bubbles: true }));
});

const dressAll = () => document.querySelectorAll("select[data-picker]").forEach(dress);
// Not at htmx:afterSwap: until it settles, a new field still wears the classes of the one it replaced.
document.addEventListener("htmx:afterSettle", dressAll);
dressAll();
