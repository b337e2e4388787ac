// The candle chart: bars of the bridge, the last one kept up by ticks; positions, stops and signals marked on it.
import { computed, inject, onBeforeUnmount, onMounted, ref, watch } from "vue";
import { axes, Chart, tip } from "./charts.js";
import { asMinute, asMoment, asPrice, asUtc, sentence, toMs } from "./format.js";
import { Panel } from "./parts.js";

const FRAMES = { M1: 60, M5: 300, M15: 900, H1: 3600, H4: 14400 };
const COUNT = 120;
const LABEL_EVERY = 20;
const OPENED = new Set(["BUY", "SELL"]);

export const CandlePanel = {
  components: { Panel, Chart },
  props: { symbol: String, symbols: Array },
  emits: ["choose"],
  template: `
    <Panel title="Chart" name="candles">
      <template #tools>
        <span class="inline"><select aria-label="Symbol" :value="symbol" @change="$emit('choose', $event.target.value)"><option v-for="name in symbols" :key="name">{{ name }}</option></select></span>
        <div class="segments" role="group" aria-label="Timeframe">
          <button v-for="name in frames" :key="name" type="button" :aria-pressed="name === frame" @click="frame = name">{{ name }}</button>
        </div>
        <ul class="legend dim" aria-hidden="true"><li class="up">▲ bought</li><li class="down">▼ sold</li><li>✕ denied</li></ul>
      </template>
      <Chart class="candle-chart" ref="chart" :option="option" :label="label" :needs="['positions']" :concerns="concerns" :pace="1500" />
    </Panel>`,
  setup(props) {
    const store = inject("store");
    const asker = inject("asker");
    const frame = ref("M1");
    const chart = ref(null);
    let bars = [];
    let asked = 0;

    async function load() {
      if (!props.symbol) return;
      const mine = ++asked;
      const answer = await asker.ask("get_rates", { symbol: props.symbol, timeframe: frame.value, count: COUNT });
      if (mine !== asked || !answer.success) return;
      bars = (answer.data ?? []).map((bar) => ({ at: Date.parse(bar.time), o: bar.open, c: bar.close, l: bar.low, h: bar.high }));
      chart.value?.draw();
    }
    // MetaTrader's bars are made of bids.
    function follow(patch) {
      const row = patch.ticks?.[props.symbol];
      if (!row || !bars.length) return;
      const [bid, , , time] = row;
      const width = FRAMES[frame.value] * 1000;
      const begin = Math.floor(time / width) * width;
      const last = bars.at(-1);
      if (begin > last.at) bars = [...bars, { at: begin, o: bid, c: bid, l: bid, h: bid }].slice(-COUNT);
      else Object.assign(last, { c: bid, l: Math.min(last.l, bid), h: Math.max(last.h, bid) });
    }
    let off = () => {};
    let timer = 0;
    onMounted(() => {
      off = store.onPatch((patch) => {
        follow(patch);
        if (patch.full || patch.link?.state === "connected") load();
      });
      timer = setInterval(load, 60_000); // what was corrected, or missed
      load();
    });
    onBeforeUnmount(() => {
      off();
      clearInterval(timer);
    });
    watch([() => props.symbol, frame], () => {
      bars = [];
      load();
    });

    // Room for stops that are near; one that is far would leave the bars no height, and stands in the table.
    function extent() {
      const low = Math.min(...bars.map((bar) => bar.l));
      const high = Math.max(...bars.map((bar) => bar.h));
      const reach = (high - low) * 1.2;
      const near = held().flatMap((p) => [p.price_open, p.stop_loss, p.take_profit]).filter((price) => price > low - reach && price < high + reach);
      const margin = (high - low) * 0.05;
      return [Math.min(low, ...near) - margin, Math.max(high, ...near) + margin];
    }
    const held = () => store.state.positions.filter((position) => position.symbol === props.symbol).slice(-6);

    function marks(c, digits, [low, high]) {
      const rows = [];
      const add = (price, colour, name, type) => {
        if (!price || price < low || price > high) return;
        rows.push({
          yAxis: price, lineStyle: { color: colour, type, width: 1 },
          label: { formatter: name, color: colour, backgroundColor: c.panel, padding: [1, 3], borderRadius: 3, position: "insideStart", fontSize: 10.5, distance: 6 },
        });
      };
      for (const position of held()) {
        const mine = position.side?.toLowerCase() === "buy" || position.type === 0;
        add(position.price_open, mine ? c.up : c.down, `${mine ? "buy" : "sell"} ${position.volume}`, "solid");
        add(position.stop_loss, c.down, "stop", "dashed");
        add(position.take_profit, c.up, "target", "dashed");
      }
      const last = bars.at(-1);
      if (last) rows.push({
        yAxis: last.c, lineStyle: { color: c.accent, width: 1, type: "dotted" },
        label: { formatter: asPrice(last.c, digits), color: c.panel, backgroundColor: c.accent, padding: [3, 5], borderRadius: 4, position: "end", distance: 3, fontSize: 11 },
      });
      return rows;
    }
    function fates(c) {
      if (!bars.length) return [];
      const width = FRAMES[frame.value] * 1000;
      const place = new Map(bars.map((bar, at) => [bar.at, at]));
      return store.state.signals.filter((signal) => signal.symbol === props.symbol).flatMap((signal) => {
        const at = place.get(Math.floor(toMs(signal.done_at ?? signal.received_at) / width) * width);
        if (at === undefined) return [];
        const denied = ["denied", "rejected"].includes(signal.status);
        if (!denied && !(OPENED.has(signal.action) && ["filled", "partial", "simulated"].includes(signal.status))) return [];
        const bought = signal.action.startsWith("BUY");
        const price = denied || !signal.price ? (bought ? bars[at].l : bars[at].h) : signal.price;
        return [{
          value: [at, price], signal, symbol: denied ? "path://M2 0L5 3L8 0L10 2L7 5L10 8L8 10L5 7L2 10L0 8L3 5L0 2Z" : "triangle",
          symbolRotate: denied || bought ? 0 : 180, symbolSize: denied ? 7 : 11, symbolOffset: denied ? [0, bought ? 12 : -12] : [0, bought ? 7 : -7],
          itemStyle: { color: denied ? c.dim : bought ? c.up : c.down, borderColor: c.panel, borderWidth: denied ? 0 : 1 },
        }];
      });
    }
    function option(c) {
      const digits = store.digits(props.symbol);
      const base = axes(c, digits);
      const [low, high] = bars.length ? extent() : [0, 1];
      return {
        grid: { left: 6, right: 6, top: 12, bottom: 4, containLabel: true },
        xAxis: {
          type: "category", data: bars.map((bar) => bar.at), axisLine: { lineStyle: { color: c.line } }, axisTick: { show: false },
          // Every so many bars, fixed: to find out which labels fit costs more than all the drawing.
          axisLabel: { color: c.dim, fontSize: 11, interval: (at) => at % LABEL_EVERY === LABEL_EVERY / 2, formatter: (at) => asMinute(Number(at)) },
        },
        yAxis: { ...base.yAxis, splitNumber: 5, min: low, max: high, axisLabel: { ...base.yAxis.axisLabel, showMinLabel: false, showMaxLabel: false } },
        tooltip: {
          ...tip(c), axisPointer: { type: "cross", lineStyle: { color: c.dim }, crossStyle: { color: c.dim }, label: { show: false } },
          formatter: (rows) => {
            const bar = bars[rows[0]?.dataIndex];
            if (!bar) return "";
            const text = [["open", bar.o], ["high", bar.h], ["low", bar.l], ["close", bar.c]].map(([name, price]) => `${name} <b>${asPrice(price, digits)}</b>`);
            return `${asMoment(bar.at)} <span style="opacity:.7">${asUtc(bar.at).slice(11, 16)} UTC</span><br>${text.join("<br>")}`;
          },
        },
        series: [
          {
            name: "bars", type: "candlestick", data: bars.map((bar) => [bar.o, bar.c, bar.l, bar.h]), barMaxWidth: 9,
            itemStyle: { color: c.up, color0: c.down, borderColor: c.up, borderColor0: c.down },
            markLine: { symbol: "none", silent: true, animation: false, precision: 8, data: marks(c, digits, [low, high]) },
          },
          { name: "signals", type: "scatter", data: fates(c), z: 5, tooltip: { show: false } },
        ],
      };
    }
    return {
      concerns: (patch) => props.symbol in (patch.ticks ?? {}) || patch["signals+"]?.some((signal) => signal.symbol === props.symbol),
      frame, chart, option, frames: Object.keys(FRAMES),
      label: computed(() => `${props.symbol || "no symbol"} candles, ${frame.value}, with ${store.state.positions.filter((p) => p.symbol === props.symbol).length} positions marked. ${sentence("prices stand in the table of quotes")}.`),
    };
  },
};
