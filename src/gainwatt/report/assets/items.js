// Items of two cells side by side. Everything that somebody wrote is put in as text, never as markup.
(() => {
  const source = document.getElementById("index");
  if (!source) return;
  const index = JSON.parse(source.textContent), questions = index.questions, n = questions.index.length;
  const cells = new Map(index.cells.map((cell, place) => [cell.name, { ...cell, place }]));
  const blocks = [...document.querySelectorAll("script.cell")], loaded = new Map();
  const byId = (id) => document.getElementById(id);
  const list = byId("list"), status = byId("status"), more = byId("more"), select = byId("pair"), search = byId("search");
  const STEP = 40;
  const KINDS = {
    improved: "improved", worsened: "worsened", other: "both wrong, other answer", same: "both wrong, same answer", right: "both right",
  };
  const state = { pair: select.value, item: null, kinds: new Set(["improved", "worsened", "other"]), query: "", shown: STEP };
  let current = null;  // {from, to, a, b, kinds: kind of each item}
  let found = [];

  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  const read = async (name) => {
    if (!loaded.has(name)) {
      const block = blocks[cells.get(name).place];
      if (block.dataset.encoding === "json") loaded.set(name, JSON.parse(block.textContent));
      else {
        const bytes = Uint8Array.from(atob(block.textContent), (character) => character.charCodeAt(0));
        const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
        loaded.set(name, await new Response(stream).json());
      }
    }
    return loaded.get(name);
  };

  const kindOf = (before, after, a, b, i) => {
    if (before[i] !== after[i]) return after[i] === "1" ? "improved" : "worsened";
    if (before[i] === "1") return "right";
    return a.answer && b.answer && a.answer[i] === b.answer[i] ? "same" : "other";
  };

  const openPair = async () => {
    const [from, to] = state.pair.split("..");
    status.textContent = "Reading the answers …";
    const [a, b] = [await read(from), await read(to)];
    if (state.pair !== `${from}..${to}`) return;  // another pair was chosen meanwhile
    const before = cells.get(from).correct, after = cells.get(to).correct;
    const kinds = Array.from({ length: n }, (_, i) => kindOf(before, after, a, b, i));
    current = { from, to, a, b, kinds };
    drawKinds();
    draw();
  };

  const drawKinds = () => {
    const counts = {};
    for (const kind of current.kinds) counts[kind] = (counts[kind] || 0) + 1;
    byId("kinds").replaceChildren(...Object.entries(KINDS).map(([kind, name]) => {
      const button = make("button", "kind", `${name} `);
      button.type = "button";
      button.dataset.kind = kind;
      button.append(make("b", "", String(counts[kind] || 0)));
      button.setAttribute("aria-pressed", String(state.kinds.has(kind)));
      button.addEventListener("click", () => {
        if (!state.kinds.delete(kind)) state.kinds.add(kind);
        button.setAttribute("aria-pressed", String(state.kinds.has(kind)));
        again();
      });
      return button;
    }));
  };

  const matches = (i, query) => [questions.question[i], questions.gold[i], current.a.text?.[i], current.b.text?.[i],
    current.a.answer?.[i], current.b.answer?.[i]].some((text) => String(text ?? "").toLowerCase().includes(query));

  const draw = () => {
    const query = state.query.trim().toLowerCase();
    const wanted = state.item === null ? -1 : questions.index.indexOf(state.item);
    found = [];
    for (let i = 0; i < n; i += 1) {
      if (i === wanted) continue;
      if (state.kinds.has(current.kinds[i]) && (!query || matches(i, query))) found.push(i);
    }
    const cards = found.slice(0, state.shown).map(card);
    if (wanted >= 0) {
      const first = card(wanted);
      first.classList.add("target");
      cards.unshift(first);
    }
    list.replaceChildren(...cards);
    const total = found.length + (wanted >= 0 ? 1 : 0);
    const missing = state.item !== null && wanted < 0 ? ` There is no item ${state.item}.` : "";
    status.textContent = `${total} of ${n} items${query ? ` with “${state.query.trim()}”` : ""}.${missing}`;
    more.hidden = found.length <= state.shown;
  };

  const again = () => { state.shown = STEP; remember(); draw(); };

  const card = (i) => {
    const kind = current.kinds[i], number = questions.index[i];
    const article = make("article", `card item ${kind}`);
    article.id = `item-${number}`;
    const head = make("h2");
    const link = make("a", "", `item ${number}`);
    link.href = `#pair=${encodeURIComponent(state.pair)}&item=${number}`;
    head.append(link, make("span", `badge ${kind}`, KINDS[kind]), make("span", "gold", `reference answer ${questions.gold[i]}`));
    const sides = make("div", "sides");
    sides.append(side(current.from, current.a, current.b, i), side(current.to, current.b, current.a, i));
    article.append(head, make("p", "question", questions.question[i]), sides);
    return article;
  };

  const side = (name, own, other, i) => {
    const box = make("section", "side"), right = cells.get(name).correct[i] === "1";
    const head = make("h3", "", name);
    head.append(make("span", right ? "right" : "wrong", `${right ? "✓" : "✗"} ${own.answer?.[i] ?? "no number"}`));
    const text = make("pre");
    text.tabIndex = 0;
    const theirs = new Set(String(other.text?.[i] ?? "").split("\n").map((line) => line.trim()));
    String(own.text?.[i] ?? "").split("\n").forEach((line, place) => {
      if (place) text.append("\n");
      text.append(!line.trim() || theirs.has(line.trim()) ? line : make("mark", "", line));
    });
    const facts = [];
    if (own.branch) facts.push(`read by ${own.branch[i]}`);
    if (own.finish_reason) facts.push(`ended by ${own.finish_reason[i]}`);
    if (own.tokens) facts.push(`${own.tokens[i]} tokens`);
    if (own.latency_s && own.latency_s[i] !== null) facts.push(`${own.latency_s[i]} s`);
    box.append(head, text, make("p", "meta", facts.join(" · ")));
    return box;
  };

  const remember = () => {
    const parts = [`pair=${encodeURIComponent(state.pair)}`];
    if (state.item !== null) parts.push(`item=${state.item}`);
    if (state.query) parts.push(`q=${encodeURIComponent(state.query)}`);
    try { history.replaceState(null, "", `#${parts.join("&")}`); } catch { /* the address stays as it is */ }
  };

  const follow = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    const pair = asked.get("pair"), known = pair && pair.split("..").length === 2 && pair.split("..").every((name) => cells.has(name));
    if (known) state.pair = pair;
    if (![...select.options].some((option) => option.value === state.pair)) select.add(new Option(state.pair.replace("..", " → "), state.pair));
    select.value = state.pair;
    state.item = asked.has("item") ? Number(asked.get("item")) : null;
    state.query = search.value = asked.get("q") || "";
    state.shown = STEP;
    openPair().catch((error) => { status.textContent = `The answers cannot be read by this browser: ${error.message}`; });
  };

  select.addEventListener("change", () => { state.pair = select.value; state.item = null; remember(); follow(); });
  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { state.query = search.value; again(); }, 150);
  });
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => { state.shown += STEP; draw(); });
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && !more.hidden) more.click();
  }, { rootMargin: "600px" }).observe(more);
  addEventListener("hashchange", follow);
  for (const option of select.options) {
    const [from, to] = option.value.split("..").map((name) => cells.get(name).correct);
    let up = 0, down = 0;
    for (let i = 0; i < n; i += 1) if (from[i] !== to[i]) { if (to[i] === "1") up += 1; else down += 1; }
    option.textContent += `  (+${up} −${down})`;
  }
  follow();
})();
