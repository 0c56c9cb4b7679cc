// Sorting: by number where a column is of numbers, else by text; nulls stay last either way.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const first = [...body.rows];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    const numeric = head.classList.contains("num"), sign = down ? -1 : 1;
    const keyed = first.map((row, place) => ({ row, place, text: row.cells[column].dataset.v }));
    keyed.sort((a, b) => {
      if ((a.text === "") !== (b.text === "")) return a.text === "" ? 1 : -1;
      const order = numeric ? Number(a.text) - Number(b.text) : a.text.localeCompare(b.text, "en", { numeric: true });
      return sign * order || a.place - b.place;
    });
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...keyed.map((entry) => entry.row));
  }));
}

for (const button of document.querySelectorAll("button.more")) {
  button.addEventListener("click", () => {
    const on = document.getElementById(button.dataset.table).classList.toggle("all");
    button.setAttribute("aria-pressed", String(on));
  });
}

// Tooltips: the drawing's own titles, shown at once, by mouse, touch and keyboard.
(() => {
  const tip = document.getElementById("tip");
  let held = null;  // what the keyboard is at: its tooltip goes along when the page scrolls
  const hide = () => { tip.hidden = true; held = null; };
  const show = (text, element, byKey) => {
    const box = element.getBoundingClientRect();
    held = byKey ? [text, element, true] : null;
    tip.textContent = text;
    tip.hidden = false;
    const own = tip.getBoundingClientRect(), width = document.documentElement.clientWidth;
    const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), width - own.width - 8);
    const above = box.top - own.height - 10;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 4 ? above : box.bottom + 10}px`;
  };
  for (const mark of document.querySelectorAll(".mark")) {
    mark.querySelector("title").remove();  // its text is the label too; two tooltips would be one too many
    const text = mark.getAttribute("aria-label"), place = mark.querySelector(".dot, .bar") || mark;
    mark.addEventListener("pointerenter", () => show(text, place, false));
    mark.addEventListener("focus", () => show(text, place, true));
    mark.addEventListener("pointerleave", hide);
    mark.addEventListener("blur", hide);
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  document.addEventListener("scroll", () => { if (held) show(...held); else hide(); }, { passive: true });
  for (const chart of document.querySelectorAll("svg[data-lines]")) curve(chart, show, hide);
})();

// Curves: a vertical line at the step that is pointed at, and the value of every series there.
function curve(chart, show, hide) {
  const data = JSON.parse(chart.dataset.lines), cursor = chart.querySelector(".cursor");
  const [left, right] = data.frame, [first, last] = data.x;
  const steps = [...new Set(data.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
  const title = chart.querySelector("title");
  if (title) title.remove();
  let at = -1;
  const nearest = (values, wanted) => values.reduce((best, x, i) =>
    (Math.abs(x - wanted) < Math.abs(values[best] - wanted) ? i : best), 0);
  const move = (index, byKey) => {
    at = Math.min(steps.length - 1, Math.max(0, index));
    const x = left + ((steps[at] - first) / (last - first)) * (right - left);
    for (const name of ["x1", "x2"]) cursor.setAttribute(name, x);
    cursor.setAttribute("visibility", "visible");
    const lines = data.lines.map((line) => {
      const value = line.y[nearest(line.x, steps[at])];
      return `${line.name}: ${value === null ? "–" : value}`;
    });
    show(`${data.xLabel} ${steps[at]}\n${lines.join("\n")}`, cursor, byKey);
  };
  const away = () => { cursor.setAttribute("visibility", "hidden"); hide(); };
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
    move(nearest(steps, first + ((x - left) / (right - left)) * (last - first)), false);
  });
  chart.addEventListener("pointerleave", away);
  chart.addEventListener("blur", away);
  chart.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageDown: 10, PageUp: -10, Home: -steps.length, End: steps.length }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    move(at + by, true);
  });
}

// Contents: closed on a phone, marking the section that is read.
(() => {
  const contents = document.querySelector(".toc details");
  if (matchMedia("(max-width: 700px)").matches) contents.open = false;
  const links = new Map([...document.querySelectorAll(".toc ol a")].map((link) => [link.hash.slice(1), link]));
  const seen = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) seen[entry.isIntersecting ? "add" : "delete"](entry.target.id);
    const current = [...links.keys()].find((id) => seen.has(id));
    for (const [id, link] of links) {
      if (id === current) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "0px 0px -60% 0px" });
  for (const id of links.keys()) watch.observe(document.getElementById(id));
})();

// A link into a closed part opens it; paper shows everything.
const openAround = (element) => {
  for (let node = element; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
};
const follow = () => openAround(document.getElementById(decodeURIComponent(location.hash.slice(1))));
addEventListener("hashchange", follow);
follow();
addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("main details")) part.open = true; });
