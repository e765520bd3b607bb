// Tables of the scorecard: headers sort when clicked, text and a choice of status filter.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  for (const card of document.querySelectorAll(".scorecard")) {
    const form = card.querySelector("form");
    const body = card.querySelector("tbody");
    const heads = [...card.querySelectorAll("thead th")];
    const rows = [...body.rows];
    form.hidden = false; // without this script it would do nothing

    const key = (row, column) => row.cells[column].dataset.sort;
    const compare = (a, b, column, sign) => {
      const [x, y] = [key(a, column), key(b, column)];
      if (!x || !y) return !x - !y; // what is not known comes last either way
      if ("number" in a.cells[column].dataset) return sign * (Number(x) - Number(y));
      return sign * x.localeCompare(y, "en", { numeric: true });
    };
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        body.append(...rows.toSorted((a, b) => compare(a, b, column, up ? 1 : -1)));
      });
    });

    const filter = () => {
      const words = form.elements.text.value.toLowerCase().split(/\s+/);
      const kind = form.elements.kind.value;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden =
          (kind !== "" && row.dataset.kind !== kind) || !words.every((w) => text.includes(w));
      }
      const shown = rows.filter((row) => !row.hidden).length;
      form.querySelector("[role=status]").textContent = `${shown} of ${rows.length} shown`;
    };
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    filter(); // a browser may have kept what was typed before
  }
});
