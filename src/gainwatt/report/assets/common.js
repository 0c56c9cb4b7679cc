"use strict";
// Theme: what the reader chose, else what the system says. Storage may be refused; the choice then lasts for the page.
(() => {
  const root = document.documentElement, button = document.getElementById("theme"), key = "gainwatt-theme";
  const names = ["system", "light", "dark"];
  let chosen = "system";
  try { chosen = localStorage.getItem(key) || "system"; } catch { /* no storage */ }
  const apply = (name) => {
    chosen = names.includes(name) ? name : "system";
    if (chosen === "system") root.removeAttribute("data-theme"); else root.setAttribute("data-theme", chosen);
    if (button) button.querySelector("span").textContent = chosen;
  };
  root.classList.add("js");
  apply(chosen);
  if (!button) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    apply(names[(names.indexOf(chosen) + 1) % names.length]);
    try { localStorage.setItem(key, chosen); } catch { /* no storage */ }
  });
})();
