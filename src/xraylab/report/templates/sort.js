"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.querySelectorAll("th[data-cell]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, head));
  }
}
function sort(table, head) {
  const before = head.getAttribute("aria-sort") || (head.dataset.cell === "0" ? "descending" : "ascending");
  const sign = before === "descending" ? 1 : -1;
  table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const value = (body) => body.rows[0].cells[head.dataset.cell].dataset.value ?? "";
  const compared = (a, b) => {
    const [one, two] = [value(a), value(b)];
    if (one === "" || two === "") return (one === "") - (two === "");
    const numbers = head.dataset.cell !== "0";
    return sign * (numbers ? one - two : one.localeCompare(two));
  };
  table.append(...[...table.tBodies].sort(compared));
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
