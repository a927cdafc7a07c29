const element = (id) => document.getElementById(id);
const read = (id) => JSON.parse(element(id).textContent);

// The library is a module: a page of one file imports it from its own memory.
const source = URL.createObjectURL(new Blob([read("library")], { type: "text/javascript" }));
const { default: DataTable } = await import(source);
URL.revokeObjectURL(source);
DataTable.ext.errMode = "throw";

const { columns, pictures, captions, missing, views } = read("rows");
for (const column of columns) {
  if (column.names) column.values = column.values.map((code) => (code === null ? null : column.names[code]));
}
const named = Object.fromEntries(columns.map((column) => [column.key, column]));
const value = (key, row) => named[key]?.values[row] ?? null;

/* Values as they are read: the page's Python side writes them the same way. */

function number(value, digits) {
  if (!isFinite(value)) return value > 0 ? "inf" : "−inf";
  if (digits === null && value === 0) digits = 0;
  if (digits === null) digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(+value.toExponential(2)))));
  if (digits > 6) return value.toExponential(2).replace(/e([+-])(\d)$/, "e$10$2").replaceAll("-", "−");
  const text = value.toFixed(digits);
  return +text === 0 ? text.replace("-", "") : text.replace("-", "−");
}

const escaped = (text) => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

function shown(column, row) {
  const value = column.values[row];
  if (value === null) return "–";
  return column.text ? value : number(value, column.digits);
}

/* The table. Missing values are last in either direction. */

const { compare } = new Intl.Collator(undefined, { numeric: true });
const missingLast = (compare) => (a, b) =>
  a === null || b === null ? (a === null) - (b === null) : compare(a, b);
const order = (compare) => ({ asc: missingLast(compare), desc: missingLast((a, b) => compare(b, a)) });
DataTable.type("text", { order: order(compare) });
DataTable.type("figure", { order: order((a, b) => a - b) });

const table = new DataTable("#lesions table", {
  data: columns[0].values.map((_, row) => ({ row })),
  columns: columns.map((column) => ({
    // What is shown becomes HTML, and what is searched is decoded as HTML: both are escaped.
    data: ({ row }, purpose) =>
      purpose === "display" || purpose === "filter" ? escaped(shown(column, row)) : column.values[row],
    type: column.text ? "text" : "figure",
    className: column.text ? "text" : "",
    searchable: column.text || column.key === "label",
    visible: column.shown,
  })),
  order: [],
  ordering: { handler: false, indicators: false },
  autoWidth: false,
  pageLength: 50,
  layout: { topStart: null, topEnd: null, bottomStart: "info", bottomEnd: "paging" },
  language: {
    info: "Rows _START_ to _END_ of _TOTAL_", infoEmpty: "", infoFiltered: "",
    zeroRecords: "No lesion passes the filters.",
  },
  createdRow: (element) => { element.tabIndex = -1; },
});

document.querySelector("#lesions thead").addEventListener("click", ({ target }) => {
  const heading = target.closest("button")?.closest("th");
  if (!heading) return;
  const column = +heading.dataset.dtColumn;
  const [first] = table.order();
  const down = first?.[0] === column && first[1] === "asc";
  const earlier = table.order().filter(([index]) => index !== column);
  // Rows equal in this column keep the order that they had.
  table.order([[column, down ? "desc" : "asc"], ...earlier.slice(0, 2)]).draw();
});

/* Filters */

const form = element("filters");

function filter() {
  const chosen = new FormData(form);
  const [scan, kinds] = [chosen.get("scan"), new Set(chosen.getAll("kind"))];
  const ranges = [...form.querySelectorAll("[data-range]")].map((range) => {
    const [low, high] = [...range.querySelectorAll("input")].map((input) => input.valueAsNumber);
    return { key: range.dataset.range, low, high };
  }).filter(({ low, high }) => !isNaN(low) || !isNaN(high));
  table.search.fixed("form", (_, { row }) => {
    const kind = value("kind", row);
    return (kind === null || kinds.has(kind)) && (!scan || String(value("scan", row)) === scan)
      && ranges.every(({ key, low, high }) => {
        const number = value(key, row);
        return number !== null && !(number < low) && !(number > high);
      });
  });
  table.search(chosen.get("text")).draw();
}

function count() {
  const { recordsDisplay, recordsTotal } = table.page.info();
  element("count").value = recordsDisplay === recordsTotal
    ? `All ${recordsTotal.toLocaleString("en")} lesions`
    : `${recordsDisplay.toLocaleString("en")} of ${recordsTotal.toLocaleString("en")} lesions`;
}

const boxes = (group) => [...form.querySelectorAll("[data-member]")].filter((box) => box.dataset.member === group);

function chooseColumns() {
  for (const whole of form.querySelectorAll("[data-group]")) {
    const members = boxes(whole.dataset.group);
    whole.checked = members.every((box) => box.checked);
    whole.indeterminate = !whole.checked && members.some((box) => box.checked);
  }
  const off = new Set([...form.querySelectorAll("[name=shown]:not(:checked)")].map((box) => box.value));
  for (const visible of [true, false]) {
    const changed = columns.flatMap(({ key }, index) =>
      !off.has(key) === visible && table.column(index).visible() !== visible ? [index] : []);
    if (changed.length) table.columns(changed).visible(visible, false);
  }
}

let waiting;
form.addEventListener("input", ({ target }) => {
  const { group } = target.dataset;
  if (group !== undefined) boxes(group).forEach((box) => { box.checked = target.checked; });
  if (group !== undefined || target.name === "shown") return chooseColumns();
  clearTimeout(waiting);
  waiting = setTimeout(filter, target.name === "text" ? 150 : 0);  // not at every letter
});
form.addEventListener("reset", () => setTimeout(() => { chooseColumns(); filter(); }));
form.addEventListener("submit", (event) => event.preventDefault());
document.querySelectorAll("[data-scan]").forEach((link) => link.addEventListener("click", () => {
  form.elements.scan.value = link.dataset.scan;
  filter();
}));

/* Rows chosen by pointer or keys, across the table's pages */

const visibleOrder = () => table.rows({ search: "applied", order: "applied" }).indexes().toArray();
let current = null;

function mark() {
  const rows = [...table.table().body().rows];
  rows.forEach((element) => element.setAttribute("aria-selected", table.row(element).index() === current));
  const start = rows.find((element) => element.getAttribute("aria-selected") === "true") ?? rows[0];
  rows.forEach((element) => { element.tabIndex = element === start ? 0 : -1; });
}

function choose(row) {
  current = row;
  const page = Math.floor(visibleOrder().indexOf(row) / table.page.len());
  if (page !== table.page()) table.page(page).draw("page");
  mark();
  table.row(row).node().focus();
  show(row);
}

function make(tag, text, ...children) {
  const made = document.createElement(tag);
  made.append(...(text === null ? [] : [text]), ...children);
  return made;
}

function picture(path, title) {
  if (path === null) return make("p", missing);
  const image = Object.assign(new Image(), { alt: `Saliency maps, slices in every channel: ${title}` });
  const address = path.split("/").map(encodeURIComponent).join("/");
  const link = Object.assign(make("a", null, image), { href: address });
  image.addEventListener("error", () => link.replaceWith(make("p", `The picture ${path} is not beside this page.`)));
  image.src = address;
  return link;
}

function show(row) {
  const title = `${value("scan", row) ?? ""}, lesion ${value("label", row)}`;
  const facts = [...new Set(columns.map(({ group }) => group))].map((group) => make("section", null,
    make("h3", group || "Lesion"),
    make("dl", null, ...columns.filter((column) => column.group === group)
      .flatMap((column) => [make("dt", column.heading), make("dd", shown(column, row))]))));
  const values = Object.assign(make("div", null, ...facts), { className: "facts" });
  const figures = [pictures[row]].flat().map((path, place, { length }) => {
    const caption = length > 1 ? `${title}, ${captions[place]}` : title;
    return make("figure", null, make("figcaption", null, make("strong", caption)), picture(path, caption));
  });
  element("chosen").replaceChildren(...figures, ...interactive(row), values);
}

/* The interactive view of the scan, a page of its own that `jaxsal view` serves */

function interactive(row) {
  const page = views[value("scan", row)];
  if (page === undefined) return [];
  if (!location.protocol.startsWith("http")) {
    const place = folder();
    const command = make("code", `jaxsal view ${/^[\w./-]+$/.test(place) ? place : `'${place.replaceAll("'", "'\\''")}'`}`);
    return [Object.assign(make("p", "To go through the maps slice by slice: ", command), { className: "soft" })];
  }
  const address = `${page.split("/").map(encodeURIComponent).join("/")}#lesion-${value("label", row)}`;
  const frame = Object.assign(document.createElement("iframe"), { className: "interactive", src: address });
  frame.title = `interactive view of ${value("scan", row)}`;
  return [frame];
}

// The folder that the page lies in now. The page holds none: it is passed on.
function folder() {
  if (location.protocol !== "file:") return "DIR";
  const path = new URL(".", location).pathname;
  return decodeURIComponent(path).replace(/^\/(?=[A-Za-z]:)/, "").replace(/(?<=[^/:])\/$/, "");
}

const rowOf = (target) => table.row(target.closest("tbody tr")).index();
const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
table.table().body().addEventListener("click", ({ target }) => {
  if (rowOf(target) === undefined) return;
  choose(rowOf(target));
  const bring = () => element("chosen").firstElementChild.scrollIntoView({ behavior: "smooth", block: "nearest" });
  element("chosen").querySelector("img")?.addEventListener("load", bring, { once: true });
});
table.table().body().addEventListener("keydown", (event) => {
  const row = rowOf(event.target);
  if (row === undefined || !(event.key in steps || event.key === "Enter" || event.key === " ")) return;
  event.preventDefault();
  const rows = visibleOrder();
  const place = rows.indexOf(row) + (steps[event.key] ?? 0);
  choose(rows[Math.min(Math.max(place, 0), rows.length - 1)]);
});

/* The rows that are shown, with all columns and full numbers */

element("download").addEventListener("click", () => {
  const plain = (value) => (value === null ? "n/a" : String(value).replace(/[\t\r\n]+/g, " "));
  const lines = visibleOrder().map((row) => columns.map(({ values }) => plain(values[row])).join("\t"));
  const text = [columns.map(({ key }) => key).join("\t"), ...lines, ""].join("\n");
  const address = URL.createObjectURL(new Blob([text], { type: "text/tab-separated-values" }));
  Object.assign(document.createElement("a"), { href: address, download: "lesions-shown.tsv" }).click();
  setTimeout(() => URL.revokeObjectURL(address));
});

table.on("draw", () => {
  document.querySelector(".dt-layout-table").scrollTop = 0;
  count();
  mark();
});
chooseColumns();
filter();
