// What stands open on a wide screen and would push the charts away on a phone; on paper it is all there again.
"use strict";

{
  const folds = [...document.querySelectorAll("details.wide")];
  const narrow = matchMedia("(max-width: 640px)").matches;
  for (const fold of folds) fold.open = !narrow;
  addEventListener("beforeprint", () => folds.forEach((fold) => (fold.open = true)));
}
