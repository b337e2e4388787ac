// Signals and their fate, the events, and one signal's whole life.
import { computed, inject, ref, watch } from "vue";
import { Chart, line } from "./charts.js";
import { asMs, asPrice, isNumber, percentile, sentence, toMs, tone, words } from "./format.js";
import { Panel, When } from "./parts.js";

const SHOWN = 100;

export const SignalsPanel = {
  components: { Panel, When },
  emits: ["look"],
  template: `
    <Panel title="Signals" name="signals" :count="found.length">
      <template #tools>
        <label class="inline"><span class="hide">Filter by words</span><input type="search" v-model.trim="filter" placeholder="Filter: symbol, id, reason" /></label>
        <label class="inline"><span class="hide">Fate</span><select v-model="fate"><option value="">all fates</option><option v-for="name in fates" :key="name">{{ name }}</option></select></label>
      </template>
      <div class="scroll" tabindex="0" role="region" aria-label="Signals">
        <table>
          <thead><tr><th scope="col">Time</th><th scope="col">Signal</th><th scope="col">Fate</th><th scope="col">Why</th><th scope="col" class="num wide">Price</th><th scope="col" class="num">Latency</th><th scope="col" class="wide">Id</th></tr></thead>
          <tbody>
            <tr v-for="s in shown" :key="s.signal_id" v-memo="[s, symbols]">
              <td class="dim"><When :at="s.done_at || s.received_at" /></td>
              <th scope="row">{{ words(s.action) }} {{ s.symbol }}</th>
              <td><span class="pill" :class="tone(s.status)">{{ s.status ?? 'waiting' }}</span></td>
              <td class="cut" :title="s.detail">{{ words(s.reason) }}</td>
              <td class="num wide">{{ price(s.price, s.symbol) }}</td>
              <td class="num dim">{{ ms(s.latency_ms) }}</td>
              <td class="wide"><button type="button" class="link cut" @click="$emit('look', s.signal_id)" :aria-label="'Look up ' + s.signal_id">{{ s.signal_id }}</button></td>
            </tr>
            <tr v-if="!shown.length"><td colspan="7" class="dim">{{ filter || fate ? 'Nothing fits the filter.' : 'No signal yet.' }}</td></tr>
          </tbody>
        </table>
      </div>
    </Panel>`,
  setup() {
    const store = inject("store");
    const filter = ref("");
    const fate = ref("");
    const found = computed(() => {
      const parts = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      const fits = (s) => {
        const text = `${s.signal_id} ${s.symbol} ${s.action} ${s.status} ${s.reason ?? ""} ${s.detail ?? ""} ${s.strategy ?? ""}`.toLowerCase().replaceAll("_", " ");
        return (!fate.value || (s.status ?? "waiting") === fate.value) && parts.every((part) => text.includes(part));
      };
      return store.state.signals.filter(fits).reverse();
    });
    return {
      filter, fate, found, words, tone, ms: asMs,
      symbols: computed(() => store.state.symbols),
      shown: computed(() => found.value.slice(0, SHOWN)),
      fates: computed(() => [...new Set(store.state.signals.map((s) => s.status ?? "waiting"))].sort()),
      price: (value, symbol) => asPrice(value, store.digits(symbol)),
    };
  },
};

export const SpeedPanel = {
  components: { Panel, Chart },
  template: `
    <Panel title="Speed" name="speed">
      <div class="pair">
        <div><div class="row"><span class="dim">Ticks a second</span><b class="num">{{ rate }}</b></div><Chart class="small-chart" :option="ticks" label="Ticks a second" :needs="['rate+']" /></div>
        <div><div class="row"><span class="dim">Tick age</span><b class="num">{{ age }}</b></div><Chart class="small-chart" :option="ages" label="Age of ticks when the broker had them, in milliseconds" :needs="['rate+']" /></div>
        <div><div class="row"><span class="dim">Signal latency, half / 99 %</span><b class="num">{{ latency }}</b></div><Chart class="small-chart" :option="latencies" label="Latency of signals in milliseconds" :needs="['signals+']" /></div>
      </div>
    </Panel>`,
  setup() {
    const { state } = inject("store");
    const done = computed(() => state.signals.filter((s) => isNumber(s.latency_ms) && s.status !== "unknown"));
    return {
      rate: computed(() => state.rate.at(-1)?.[1]?.toFixed(0) ?? "–"),
      age: computed(() => asMs(state.rate.at(-1)?.[2])),
      latency: computed(() => {
        const all = done.value.map((s) => s.latency_ms);
        return `${asMs(percentile(all, 0.5))} / ${asMs(percentile(all, 0.99))}`;
      }),
      ticks: (c) => line(c, [{ name: "Ticks", rows: state.rate.map(([at, n]) => [at, n]), colour: c.accent, area: true }], { unit: "/s", min: 0 }),
      ages: (c) => line(c, [{ name: "Age", rows: state.rate.filter((row) => isNumber(row[2])).map(([at, , ms]) => [at, ms]), colour: c.warn }], { unit: " ms", min: 0 }),
      latencies: (c) => line(c, [{ name: "Latency", rows: done.value.map((s) => [toMs(s.done_at ?? s.received_at), s.latency_ms]), colour: c.up, dots: true }], { digits: 1, unit: " ms", min: 0 }),
    };
  },
};

function told({ type, data }) {
  switch (type) {
    case "order_result":
      return [data.status, `${words(data.action)} ${data.symbol ?? ""}`, data.reason ? words(data.reason) : data.price ? `at ${data.price}` : ""];
    case "position_opened":
      return ["opened", `${data.side ?? ""} ${data.symbol} ${data.volume}`, `ticket ${data.ticket}`];
    case "position_closed":
      return ["closed", `${data.side ?? ""} ${data.symbol} ${data.volume}`, `${words(data.reason)}, ${isNumber(data.profit) ? data.profit.toFixed(2) : "–"}`];
    case "pending_changed":
      return [data.state, `order ${data.symbol ?? ""}`, `ticket ${data.ticket}`];
    case "halt_changed":
      return [data.state, `${data.phase ?? ""}`, `${data.reason ?? ""} by ${data.by ?? ""}`];
    default:
      return [data.state, data.channel ?? type, data.detail ?? ""];
  }
}

const KINDS = { order_result: "Order", position_opened: "Position", position_closed: "Position", pending_changed: "Pending", halt_changed: "Halt", connection_status: "Channel" };

export const EventsPanel = {
  components: { Panel, When },
  template: `
    <Panel title="Events" name="events" :count="total">
      <div class="scroll" tabindex="0" role="region" aria-label="Events">
        <ol class="log">
          <li v-for="e in rows" :key="e.n" v-memo="[e.n]"><span class="dim"><When :at="e.at" /></span><span class="kind dim">{{ e.kind }}</span><span class="pill" :class="e.tone">{{ e.state }}</span><span class="cut">{{ e.what }} <span class="dim">{{ e.more }}</span></span></li>
          <li v-if="!rows.length" class="dim">Nothing has happened since this page was opened.</li>
        </ol>
      </div>
    </Panel>`,
  setup() {
    const { state } = inject("store");
    return {
      total: computed(() => state.events.length),
      rows: computed(() => state.events.slice(-SHOWN).reverse().map((event) => {
        const [status, what, more] = told(event);
        return { n: event.n, at: event.at, kind: KINDS[event.type] ?? event.type, state: words(status), tone: tone(status === "opened" ? "filled" : status), what, more };
      })),
    };
  },
};

function steps(life) {
  const rows = [[life.received_at, "Received", `${words(life.action)} ${life.symbol} from ${life.source}${life.sender ? `, ${life.sender}` : ""}${life.request_id ? `, request ${life.request_id}` : ""}${life.correlation ? `, correlation ${life.correlation}` : ""}${life.topic ? ` (${life.topic} ${life.partition}:${life.offset})` : ""}`]];
  for (const intent of life.intents ?? []) {
    rows.push([intent.opened_at, "Intent", `${words(intent.action)} ${intent.symbol} ${intent.volume} lots, magic ${intent.magic}${intent.risk ? `, risking ${intent.risk.toFixed(2)}` : ""}`]);
    const facts = ["filled_volume", "price", "order", "deal", "position", "retcode"].filter((name) => intent[name]).map((name) => `${words(name)} ${intent[name]}`);
    rows.push([intent.moved_at, sentence(intent.state), [...facts, intent.detail].filter(Boolean).join(", ")]);
  }
  if (life.settled_at) rows.push([life.settled_at, `Result: ${life.status}`, [words(life.reason), life.detail, isNumber(life.latency_ms) ? asMs(life.latency_ms) : ""].filter(Boolean).join(" · ")]);
  for (const fix of life.corrections ?? []) rows.push([fix.at, `Corrected: ${fix.status}`, words(fix.reason)]);
  for (const event of life.waiting ?? []) rows.push([event.since, "Waiting", `${event.type} for ${event.channel}`]);
  return rows;
}

export const JournalPanel = {
  components: { Panel, When },
  props: { wanted: Object },
  template: `
    <Panel title="One signal's life" name="journal">
      <form class="search" @submit.prevent="look(id)">
        <label class="hide" for="journal-id">Signal id</label>
        <input id="journal-id" v-model.trim="id" placeholder="Signal id" autocomplete="off" maxlength="300" />
        <button type="submit" class="button">Look up</button>
      </form>
      <div class="scroll" tabindex="0" role="region" aria-label="Life of the signal" aria-live="polite">
        <p class="problem" v-if="problem">{{ problem }}</p>
        <p class="dim" v-else-if="!life">From the bridge's journal: how a signal came, what was asked of the terminal, what came of it. Press a signal's id in the list.</p>
        <ol class="life" v-else>
          <li v-for="([at, name, text], n) in rows" :key="n"><span class="dim"><When :at="at" /></span><b>{{ name }}</b><span>{{ text }}</span></li>
        </ol>
      </div>
    </Panel>`,
  setup(props) {
    const asker = inject("asker");
    const [id, life, problem] = [ref(""), ref(null), ref("")];
    async function look(wanted) {
      if (!wanted) return;
      id.value = wanted;
      const answer = await asker.ask("get_signal", { signal_id: wanted });
      life.value = answer.success ? answer.data : null;
      problem.value = answer.success ? "" : (answer.error?.message ?? "no answer");
    }
    watch(() => props.wanted, (wanted) => look(wanted?.id));
    return { id, life, problem, look, rows: computed(() => steps(life.value)) };
  },
};
