// Sort the table by a column; numbers as numbers, missing values last.
const table = document.querySelector(".scroll table");
table.querySelectorAll("thead tr:last-child th").forEach((heading, index, headings) => {
  heading.querySelector("button").addEventListener("click", () => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const key = (row) => row.cells[index].dataset.order;
    const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
    [...body.rows]
      .sort((a, b) => (!key(a)) - (!key(b)) || (down ? -1 : 1) * compare(key(a), key(b)))
      .forEach((row) => body.append(row));
  });
});
