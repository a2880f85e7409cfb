"""Live-room backends behind one interface (driver.py); who may enter was decided before they are asked."""
