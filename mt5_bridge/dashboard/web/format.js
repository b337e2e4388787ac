// Numbers, times and words as people read them. No state.

const locale = undefined; // the browser's

const money = new Intl.NumberFormat(locale, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const signed = new Intl.NumberFormat(locale, { minimumFractionDigits: 2, maximumFractionDigits: 2, signDisplay: "exceptZero" });
const clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minute = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(locale, { day: "2-digit", month: "short" });

export const NONE = "–";

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export const asMoney = (value) => (isNumber(value) ? money.format(value) : NONE);

export const asProfit = (value) => (isNumber(value) ? signed.format(value) : NONE);

export const asPrice = (value, digits) => (isNumber(value) && value !== 0 ? value.toFixed(digits ?? 5) : NONE);

export const asLots = (value) => (isNumber(value) ? value.toFixed(2) : NONE);

export const asMs = (value) => {
  if (!isNumber(value)) return NONE;
  if (Math.abs(value) >= 10_000) return `${(value / 1000).toFixed(0)} s`;
  return Math.abs(value) < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
};

export const asAge = (ms) => {
  if (!isNumber(ms)) return NONE;
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return `${Math.round(s / 3600)} h`;
};

export const toMs = (when) => (isNumber(when) ? when : when ? Date.parse(when) : NaN);

export const asClock = (when) => {
  const ms = toMs(when);
  return Number.isNaN(ms) ? NONE : clock.format(ms);
};

export const asMinute = (when) => minute.format(toMs(when));

export const asMoment = (when) => {
  const ms = toMs(when);
  if (Number.isNaN(ms)) return NONE;
  const today = new Date().toDateString() === new Date(ms).toDateString();
  return today ? clock.format(ms) : `${day.format(ms)} ${minute.format(ms)}`;
};

export const asUtc = (when) => {
  const ms = toMs(when);
  return Number.isNaN(ms) ? "" : new Date(ms).toISOString().replace("T", " ").replace("Z", " UTC");
};

// Digits of a price that the bridge has told nothing about: as many as it shows.
export const digitsOf = (value) => (isNumber(value) ? (String(value).split(".")[1] || "").length : 0);

export const words = (name) => String(name ?? "").replaceAll("_", " ");

export const sentence = (name) => {
  const text = words(name).toLowerCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
};

export const percentile = (values, share) => {
  const ordered = values.filter(isNumber).sort((a, b) => a - b);
  return ordered.length ? ordered[Math.min(ordered.length - 1, Math.floor(share * ordered.length))] : null;
};

const GOOD = new Set(["filled", "partial", "placed", "modified", "cancelled", "closed", "simulated", "connected", "ok", "active"]);
const POOR = new Set(["denied", "reducing", "degraded", "abandoned", "connecting", "reconnecting"]);

export const tone = (state) => {
  if (GOOD.has(state)) return "good";
  if (POOR.has(state)) return "poor";
  return state == null || state === "unknown" || state === "waiting" ? "mute" : "bad";
};
