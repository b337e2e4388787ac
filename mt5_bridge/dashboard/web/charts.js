// ECharts as NiceGUI ships it, in our colours; drawn at most twice a second.
import { inject, nextTick, onBeforeUnmount, onMounted, ref } from "vue";
import { echarts } from "nicegui-echart";
import { asClock, asMinute, asUtc } from "./format.js";

const PACE_MS = 1000;

export function colours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["bg", "panel", "line", "text", "dim", "accent", "up", "down", "warn"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

export const tip = (c) => ({
  trigger: "axis",
  confine: true,
  backgroundColor: c.panel,
  borderColor: c.line,
  textStyle: { color: c.text, fontSize: 12 },
  axisPointer: { lineStyle: { color: c.dim }, label: { backgroundColor: c.line, color: c.text } },
  transitionDuration: 0,
});

export const axes = (c, digits, unit = "") => ({
  xAxis: {
    type: "time", axisLine: { lineStyle: { color: c.line } }, axisTick: { show: false }, splitLine: { show: false },
    axisLabel: { color: c.dim, fontSize: 11, hideOverlap: true, formatter: (at) => asMinute(at) }, splitNumber: 4, minInterval: 60_000,
  },
  yAxis: {
    type: "value", scale: true, position: "right", splitNumber: 3, splitLine: { lineStyle: { color: c.line } },
    axisLabel: { color: c.dim, fontSize: 11, formatter: (value) => value.toFixed(digits) + unit },
  },
});

export function line(c, series, { digits = 0, unit = "", min } = {}) {
  const base = axes(c, digits, unit);
  if (min !== undefined) base.yAxis = { ...base.yAxis, min, scale: false };
  return {
    ...base,
    grid: { left: 4, right: 4, top: 10, bottom: 2, containLabel: true },
    tooltip: {
      ...tip(c),
      formatter: (rows) => `${asClock(rows[0].value[0])} <span style="opacity:.7">${asUtc(rows[0].value[0]).slice(11)}</span><br>`
        + rows.map((row) => `${row.marker}${row.seriesName} <b>${Number(row.value[1]).toFixed(digits)}${unit}</b>`).join("<br>"),
    },
    series: series.map(({ name, rows, colour, area, dashed, dots }) => ({
      name, type: dots ? "scatter" : "line", data: rows, showSymbol: Boolean(dots), symbolSize: 5, sampling: "lttb",
      itemStyle: { color: colour }, lineStyle: { color: colour, width: dashed ? 1 : 1.8, type: dashed ? "dashed" : "solid" },
      areaStyle: area ? { color: colour, opacity: 0.1, origin: "start" } : undefined,
    })),
  };
}

export const Chart = {
  props: { option: Function, label: String, needs: Array, concerns: Function, pace: { type: Number, default: PACE_MS } },
  template: `<div class="chart" role="img" :aria-label="label" ref="place"></div>`,
  setup(props, { expose }) {
    const store = inject("store");
    const place = ref(null);
    let chart = null;
    let drawn = 0;
    let timer = 0;
    let seen = true;
    const draw = () => {
      timer = 0;
      if (!chart || document.hidden || !seen) return;
      drawn = performance.now();
      chart.setOption({ animation: false, ...props.option(colours()) }, { replaceMerge: ["series"], lazyUpdate: true });
    };
    const soon = () => {
      if (!timer) timer = setTimeout(draw, Math.max(0, props.pace - (performance.now() - drawn)));
    };
    const restyle = () => draw();
    const size = new ResizeObserver(() => chart?.resize());
    // What is scrolled out of sight costs nothing.
    const sight = new IntersectionObserver(([entry]) => {
      seen = entry.isIntersecting;
      if (seen) soon();
    });
    let off = () => {};
    onMounted(async () => {
      await nextTick();
      chart = echarts.init(place.value, null, { renderer: "canvas", useDirtyRect: true });
      size.observe(place.value);
      sight.observe(place.value);
      addEventListener("mt5-theme", restyle);
      off = store.onPatch((patch) => {
        if (patch.full || props.needs.some((name) => name in patch) || props.concerns?.(patch)) soon();
      });
      draw();
    });
    onBeforeUnmount(() => {
      off();
      clearTimeout(timer);
      size.disconnect();
      sight.disconnect();
      removeEventListener("mt5-theme", restyle);
      chart?.dispose();
    });
    expose({ soon, draw });
    return { place };
  },
};
