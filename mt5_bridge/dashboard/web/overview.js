// What is seen first: health, account, limits, quotes.
import { computed, inject } from "vue";
import { Chart, line } from "./charts.js";
import { asAge, asMoney, asMs, asProfit, isNumber, sentence, tone } from "./format.js";
import { Panel } from "./parts.js";

const CHANNELS = { terminal: "Terminal", redpanda: "Redpanda", backend: "Backend" };

export function channelsOf(health) {
  return Object.entries(health?.channels ?? {}).map(([name, state]) => ({
    name: CHANNELS[name] ?? sentence(name),
    state: typeof state === "object" ? state?.state : state,
  }));
}

export const HealthPanel = {
  components: { Panel },
  template: `
    <Panel title="Health" name="health">
      <template #tools><span class="pill" :class="tone(status)">{{ words(status) }}</span></template>
      <ul class="channels">
        <li v-for="channel in channels" :key="channel.name">
          <span class="dot" :class="tone(channel.state)" aria-hidden="true"></span>{{ channel.name }}
          <span class="dim">{{ channel.state }}</span>
        </li>
        <li v-if="!channels.length" class="dim">No word from the bridge yet.</li>
      </ul>
      <dl class="facts">
        <div v-for="[name, value] in facts" :key="name"><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
      </dl>
      <p class="note" :title="health?.detail">{{ health?.detail ?? '' }}</p>
    </Panel>`,
  setup() {
    const { state } = inject("store");
    const health = computed(() => state.health);
    return {
      health,
      tone,
      words: sentence,
      status: computed(() => health.value?.status ?? "unknown"),
      channels: computed(() => channelsOf(health.value)),
      facts: computed(() => [
        ["Tick age", asMs(health.value?.tick_age_ms)],
        ["Clock", isNumber(health.value?.clock_skew_ms) ? `${health.value.clock_skew_ms >= 0 ? "+" : ""}${asMs(health.value.clock_skew_ms)}` : "–"],
        ["Loop stall", asMs(health.value?.loop_stall_ms)],
        ["Memory", isNumber(health.value?.rss_mb) ? `${health.value.rss_mb.toFixed(0)} MB` : "–"],
        ["Up for", asAge((health.value?.uptime_s ?? NaN) * 1000)],
      ]),
    };
  },
};

export const AccountPanel = {
  components: { Panel, Chart },
  template: `
    <Panel title="Account" name="account">
      <template #tools><span class="dim">{{ who }}</span></template>
      <div class="figures">
        <div class="figure lead"><span class="dim">Equity</span><b>{{ money(account?.equity) }}</b><span class="dim unit">{{ account?.currency }}</span></div>
        <div class="figure"><span class="dim">Floating</span><b :class="sign">{{ profit(account?.profit) }}</b></div>
        <div class="figure"><span class="dim">Balance</span><b>{{ money(account?.balance) }}</b></div>
        <div class="figure"><span class="dim">Free margin</span><b>{{ money(account?.free_margin) }}</b></div>
        <div class="figure"><span class="dim">Margin level</span><b>{{ level }}</b></div>
      </div>
      <Chart class="equity-chart" :option="option" label="Equity and balance over the last hour" :needs="['equity+']" />
    </Panel>`,
  setup() {
    const { state } = inject("store");
    const account = computed(() => state.account);
    return {
      account,
      money: asMoney,
      profit: asProfit,
      sign: computed(() => (account.value?.profit > 0 ? "up" : account.value?.profit < 0 ? "down" : "")),
      level: computed(() => (account.value?.margin_level ? `${account.value.margin_level.toFixed(0)} %` : "–")),
      who: computed(() => (account.value ? `${account.value.login} · ${account.value.server} · 1:${account.value.leverage}` : "")),
      option: (colours) => line(colours, [
        { name: "Balance", rows: state.equity.map(([at, , balance]) => [at, balance]), colour: colours.dim, dashed: true },
        { name: "Equity", rows: state.equity.map(([at, equity]) => [at, equity]), colour: colours.accent, area: true },
      ], { digits: 2 }),
    };
  },
};

const LIMITS = {
  max_daily_trades: "Trades today",
  max_daily_loss_pct: "Loss today",
  max_drawdown_pct: "Drawdown",
  max_simultaneous_trades: "Open at once",
  min_margin_level_pct: "Margin level, at least",
};

export const LimitsPanel = {
  components: { Panel },
  template: `
    <Panel title="Limits" name="limits">
      <ul class="gauges">
        <li v-for="limit in limits" :key="limit.name">
          <div class="row"><span>{{ limit.title }}</span><span class="num"><b>{{ limit.used }}</b> <span class="dim">/ {{ limit.end }}</span></span></div>
          <div class="gauge" :class="limit.tone" role="meter" :aria-label="limit.title" aria-valuemin="0" :aria-valuemax="limit.max"
            :aria-valuenow="limit.value" :aria-valuetext="limit.used + ' of ' + limit.end"><i :style="{transform: 'scaleX(' + limit.share + ')'}"></i></div>
        </li>
        <li v-if="!limits.length" class="dim">The bridge tells no limits.</li>
      </ul>
    </Panel>`,
  setup() {
    const { state } = inject("store");
    const figure = (value, unit) => (isNumber(value) ? (unit === "%" ? `${value.toFixed(2)} %` : `${value}`) : "–");
    return {
      limits: computed(() => state.limits.map((limit) => {
        const value = limit.used ?? 0;
        const share = !isNumber(limit.used) ? 0 : limit.least ? Math.min(1, limit.limit / Math.max(value, 1e-9)) : Math.min(1, limit.limit ? value / limit.limit : 1);
        return {
          name: limit.name,
          title: LIMITS[limit.name] ?? sentence(limit.name),
          used: figure(limit.used, limit.unit),
          end: figure(limit.limit, limit.unit),
          share: share.toFixed(4),
          max: Math.max(limit.limit, value),
          value,
          tone: share >= 0.95 ? "bad" : share >= 0.7 ? "poor" : "good",
        };
      })),
    };
  },
};

// One symbol: only the one that moved is drawn again.
const Quote = {
  props: { name: String, now: Number, chosen: Boolean },
  emits: ["choose"],
  inject: ["store"],
  template: `
    <tr :class="{chosen}">
      <th scope="row"><button type="button" class="link" :aria-pressed="chosen" @click="$emit('choose', quote.symbol)">{{ quote.symbol }}</button></th>
      <td class="num price"><span :class="arrow[0]" class="arrow" aria-hidden="true">{{ arrow[1] }}</span>{{ bid.head }}<b>{{ bid.pips }}</b>{{ bid.rest }}</td>
      <td class="num price">{{ ask.head }}<b>{{ ask.pips }}</b>{{ ask.rest }}</td>
      <td class="num dim">{{ quote.spread }}</td>
      <td class="spark"><svg viewBox="0 0 90 24" preserveAspectRatio="none" aria-hidden="true"><path :d="path" /></svg></td>
      <td class="num dim age">{{ age }}</td>
    </tr>`,
  computed: {
    quote() {
      return this.store.quotes[this.name];
    },
    bid() {
      return this.parts(this.quote.bid);
    },
    ask() {
      return this.parts(this.quote.ask);
    },
    arrow() {
      return { 1: ["up", "▲"], [-1]: ["down", "▼"] }[this.quote.moved] ?? ["", " "];
    },
    age() {
      return asAge(Math.max(0, this.now - this.quote.at));
    },
    path() {
      void this.now; // once a second is enough
      const rows = this.store.trails.get(this.name) ?? [];
      const prices = rows.map(([, price]) => price);
      const low = Math.min(...prices);
      const span = Math.max(...prices) - low || 1;
      const last = rows.at(-1)?.[0] ?? 0;
      const width = Math.max(30, last - (rows[0]?.[0] ?? 0));
      return rows.map(([second, price], at) => `${at ? "L" : "M"}${(90 - ((last - second) / width) * 90).toFixed(1)} ${(22 - ((price - low) / span) * 20).toFixed(1)}`).join("");
    },
  },
  methods: {
    // The two digits that traders read stand out.
    parts(price) {
      if (!isNumber(price)) return { head: "–", pips: "", rest: "" };
      const text = price.toFixed(this.quote.digits);
      const end = this.quote.digits % 2 === 1 && this.quote.digits > 1 ? text.length - 1 : text.length;
      return { head: text.slice(0, end - 2), pips: text.slice(end - 2, end), rest: text.slice(end) };
    },
  },
};

export const QuotesPanel = {
  components: { Panel, Quote },
  props: { chosen: String },
  emits: ["choose"],
  template: `
    <Panel title="Quotes" name="quotes" :count="names.length">
      <div class="scroll" tabindex="0" role="region" aria-label="Quotes">
        <table>
          <thead><tr><th scope="col">Symbol</th><th scope="col" class="num">Bid</th><th scope="col" class="num">Ask</th><th scope="col" class="num">Spread</th><th scope="col">90 s</th><th scope="col" class="num">Age</th></tr></thead>
          <tbody>
            <Quote v-for="name in names" :key="name" :name="name" :now="state.now" :chosen="name === chosen" @choose="$emit('choose', $event)" />
            <tr v-if="!names.length"><td colspan="6" class="dim">Waiting for the first tick…</td></tr>
          </tbody>
        </table>
      </div>
    </Panel>`,
  setup() {
    const { state, quotes } = inject("store");
    return { state, names: computed(() => Object.keys(quotes).sort()) };
  },
};
