"""The live charts of the page: of each a module of Python that says what is drawn, and one of JavaScript that draws it.

Numbers are computed here, by the functions that make the tables and the pictures; the scripts only choose and draw. A
chart is a line in `CHARTS`, a function of an `Analysis`, and a file `<name>.js` that registers its drawing.
"""
