// Thumbnails of picks: those of the chosen setting, without the strategies that are switched off.
"use strict";

report.listeners.push(() => {
  const { choice } = report;
  for (const gallery of document.querySelectorAll(".gallery")) {
    gallery.classList.toggle("elsewhere", Number(gallery.dataset.setting) !== choice.setting);
  }
  for (const strip of document.querySelectorAll(".strip")) {
    const { strategy } = strip.dataset;
    strip.classList.toggle("off", choice.hidden.has(strategy));
    strip.classList.toggle("faded", choice.followed !== null && strategy !== choice.followed);
  }
});
