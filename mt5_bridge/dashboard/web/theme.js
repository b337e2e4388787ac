// Before anything is drawn: the theme a person chose, or the system's.
(() => {
  const chosen = () => {
    try {
      return localStorage.getItem("mt5-theme");
    } catch {
      return null; // storage is switched off
    }
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    document.documentElement.dataset.theme = chosen() || (system.matches ? "dark" : "light");
    dispatchEvent(new Event("mt5-theme"));
  };
  globalThis.mt5Theme = {
    toggle() {
      const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      try {
        localStorage.setItem("mt5-theme", next);
      } catch {
        // it lasts until the page is left
      }
      document.documentElement.dataset.theme = next;
      dispatchEvent(new Event("mt5-theme"));
    },
  };
  system.addEventListener("change", apply);
  apply();
})();
