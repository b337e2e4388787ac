// What the page knows: patches of the server go in, parts of it are drawn when they change.
import { computed, reactive, shallowReactive, shallowRef } from "vue";
import { digitsOf } from "./format.js";

const KEPT = { signals: 500, events: 500, equity: 3600, rate: 1800 };
const SECTIONS = ["link", "bridge", "halt", "stop", "health", "limits", "account", "positions", "orders", "symbols"];
const SILENT_MS = 3500;

export function createStore() {
  const state = shallowReactive({
    link: { state: "connecting", detail: "" },
    bridge: {},
    halt: { state: "unknown" },
    stop: null,
    health: null,
    limits: [],
    account: null,
    positions: [],
    orders: [],
    symbols: {},
    signals: [],
    events: [],
    equity: [],
    rate: [],
    now: 0, // the server's clock, about once a second
    page: "connecting", // this page's own connection to the dashboard
  });
  const quotes = shallowReactive({});
  const trails = new Map();
  const listeners = new Set();
  let heard = performance.now();

  function add(name, rows) {
    state[name] = [...state[name], ...rows].slice(-KEPT[name]);
  }

  function addSignals(rows) {
    const known = new Map(state.signals.map((row) => [row.signal_id, row]));
    for (const row of rows) {
      known.delete(row.signal_id);
      known.set(row.signal_id, row);
    }
    state.signals = [...known.values()].slice(-KEPT.signals);
  }

  function tick(symbol, [bid, ask, spread, time, at]) {
    const before = quotes[symbol];
    const digits = state.symbols[symbol]?.digits ?? Math.max(before?.digits ?? 0, digitsOf(bid), digitsOf(ask));
    const moved = !before || before.bid === bid ? (before?.moved ?? 0) : bid > before.bid ? 1 : -1;
    quotes[symbol] = { symbol, bid, ask, spread, time, at, digits, moved };
    let trail = trails.get(symbol);
    if (!trail) trails.set(symbol, (trail = []));
    const second = Math.floor(at / 1000);
    if (trail.length && trail.at(-1)[0] === second) trail.at(-1)[1] = bid;
    else trail.push([second, bid]);
    if (trail.length > 90) trail.shift();
  }

  function take(patch) {
    heard = performance.now();
    state.page = "connected";
    if (patch.full) {
      for (const name of Object.keys(KEPT)) state[name] = [];
      for (const name of Object.keys(quotes)) delete quotes[name];
      trails.clear();
      for (const [symbol, rows] of Object.entries(patch.trails ?? {})) trails.set(symbol, rows);
    }
    for (const name of SECTIONS) if (name in patch) state[name] = patch[name];
    for (const name of ["events", "equity", "rate"]) if (`${name}+` in patch) add(name, patch[`${name}+`]);
    if ("signals+" in patch) addSignals(patch["signals+"]);
    for (const [symbol, row] of Object.entries(patch.ticks ?? {})) tick(symbol, row);
    if (patch.full || patch.t - state.now >= 1000 || patch.t < state.now) state.now = patch.t;
    for (const listener of listeners) listener(patch);
  }

  const watchdog = setInterval(() => {
    if (state.page === "connected" && performance.now() - heard > SILENT_MS) state.page = "lost";
  }, 250);

  const scopes = computed(() => new Set(state.bridge.scopes ?? []));
  const may = (scope) => scopes.value.has(scope) || scopes.value.has("admin");
  const digits = (symbol) => state.symbols[symbol]?.digits ?? quotes[symbol]?.digits ?? 5;

  return {
    state,
    quotes,
    trails,
    take,
    may,
    digits,
    lost: () => (state.page = "lost"),
    onPatch(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: () => clearInterval(watchdog),
  };
}

// Requests: each gets its answer, or says that none came.
export function createAsker(emit) {
  const waiting = new Map();
  let number = 0;
  return {
    ask(type, data = {}, seconds = 15) {
      const id = ++number;
      return new Promise((resolve) => {
        const failed = { success: false, error: { code: "no_answer", message: "the dashboard did not answer" } };
        const timer = setTimeout(() => answered(id, failed), seconds * 1000);
        const answered = (which, answer) => {
          clearTimeout(timer);
          waiting.delete(which);
          resolve(answer);
        };
        waiting.set(id, answered);
        emit("ask", { id, type, data });
      });
    },
    answered(id, answer) {
      waiting.get(id)?.(id, answer);
    },
  };
}

export { computed, reactive, shallowRef };
