// Tables: each as CSV with all its digits; the rows of the strategy that is followed are brought out.
"use strict";

{
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const cellText = (cell) => cell.dataset.value ?? cell.textContent;

  const csv = (table) =>
    [...table.rows].map((row) => [...row.cells].map((cell) => quoted(cellText(cell))).join(",")).join("\n") + "\n";

  for (const button of document.querySelectorAll("button[data-csv]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const table = button.closest(".table").querySelector("table");
      const address = URL.createObjectURL(new Blob([csv(table)], { type: "text/csv" }));
      Object.assign(document.createElement("a"), { href: address, download: `${button.dataset.csv}.csv` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 1000);
    });
  }

  report.listeners.push(() => {
    for (const row of document.querySelectorAll("tbody tr")) {
      const followed = report.choice.followed;
      row.classList.toggle("followed", followed !== null && [...row.cells].some((cell) => cell.textContent === followed));
    }
  });
}
