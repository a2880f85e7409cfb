"""What room.js says to people, in their language."""

from flask_babel import gettext as _


def room_words() -> dict[str, str]:
    """Sentence by name; `{name}` and `{people}` are filled in by the script."""
    return {
        "you": _("{name} (you)"),
        "joined": _("{name} came in"),
        "left": _("{name} left"),
        "hand": _("{name} raised a hand"),
        "shares": _("{name} shares a screen"),
        "you_share": _("You share your screen"),
        "mute": _("Mute"),
        "unmute": _("Unmute"),
        "camera_name": _("Camera"),
        "camera_on": _("Turn camera on"),
        "camera_off": _("Turn camera off"),
        "share": _("Share"),
        "stop_sharing": _("Stop sharing"),
        "new_messages": _("{number} new"),
        "camera": _("Camera {number}"),
        "microphone": _("Microphone {number}"),
        "speaker": _("Speaker {number}"),
        "hear": _("We hear you"),
        "no_sound": _("Say something"),
        "mic_muted": _("Muted"),
        "blocked": _("The browser did not let us use camera and microphone"),
        "blocked_how": _(
            "Allow both with the sign beside the address, then reload this page. "
            "You can also go in without them: you see and hear everyone and can write."
        ),
        "none": _("No camera or microphone was found"),
        "none_how": _("You can go in without them: you see and hear everyone and can write."),
        "busy": _("Another program holds the camera or the microphone"),
        "busy_how": _("Close it and reload this page, or go in without them."),
        "insecure": _("Camera and microphone need a secure address"),
        "insecure_how": _("Ask your institution’s support to serve this page over https."),
        "connecting": _("Going in"),
        "lost": _("The connection is lost. Trying again"),
        "back": _("Connected again"),
        "unreachable": _("Connection failed between you and {name}"),
        "unreachable_how": _(
            "Their picture and sound do not get through; the chat does. "
            "Your networks may need a relay: tell your institution’s support “TURN”."
        ),
        "linking": _("Connecting"),
        "cameras_full": _(
            "{number} cameras are on already, which is as many as fit. Yours stays off for now."
        ),
        "screen_refused": _("Only moderators share their screen."),
        "too_many": _("That was too fast. Wait a moment."),
        "words_refused": _("This message was not sent. It is empty or too long."),
        "moved_title": _("You are inside in another window"),
        "moved_text": _(
            "The room is open there, so this window stopped. Your camera and microphone here are off."
        ),
        "ended_title": _("The session has ended"),
        "ended_text": _("A moderator ended it for everyone. What was written is kept."),
        "left_title": _("You have left the room"),
        "left_text": _("The session goes on. You can go in again."),
        "not_enrolled_title": _("You are no longer on the list of this course"),
        "not_enrolled_text": _("So you were taken out of the room. Ask your teacher if this is wrong."),
        "signed_out_title": _("You are signed out"),
        "signed_out_text": _("So you left the room. Open the course again to go back in."),
    }
