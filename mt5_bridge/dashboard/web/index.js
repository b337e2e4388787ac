// The page: a bar, what matters most, and the rest in the order people look at it.
import { computed, onBeforeUnmount, onMounted, provide, ref } from "vue";
import { CandlePanel } from "./candles.js";
import { asAge, asClock, asUtc, tone } from "./format.js";
import { AccountPanel, channelsOf, HealthPanel, LimitsPanel, QuotesPanel } from "./overview.js";
import { EventsPanel, JournalPanel, SignalsPanel, SpeedPanel } from "./signals.js";
import { HaltPanel, StopButton, StopReport } from "./stop.js";
import { createAsker, createStore } from "./store.js";
import { OrdersPanel, PositionsPanel } from "./tables.js";

const Bar = {
  props: { store: Object, person: String },
  template: `
    <header class="bar">
      <img src="/assets/favicon.svg" alt="" width="26" height="26" />
      <h1>MT5 Bridge</h1>
      <span class="bridge" v-if="bridge.bridge_id">{{ bridge.bridge_id }}</span>
      <span class="pill mute" v-if="readonly">read only</span>
      <ul class="chips" aria-label="Channels">
        <li v-for="channel in channels" :key="channel.name" :title="channel.name + ': ' + channel.state"><span class="dot" :class="tone(channel.state)" aria-hidden="true"></span>{{ channel.name }}<span class="hide">: {{ channel.state }}</span></li>
      </ul>
      <time class="clock num" :datetime="iso" :title="utc">{{ clock }}</time>
      <button type="button" class="icon" @click="theme" aria-label="Light or dark">◐</button>
      <form method="post" action="/logout"><button type="submit" class="button small" :title="'Logged in as ' + person">Log out</button></form>
    </header>`,
  setup(props) {
    const state = props.store.state;
    return {
      tone,
      bridge: computed(() => state.bridge),
      readonly: computed(() => state.bridge.scopes && !["stop", "trade", "admin"].some(props.store.may)),
      channels: computed(() => [{ name: "Stream", state: state.page === "connected" ? state.link.state : "lost" }, ...channelsOf(state.health)]),
      clock: computed(() => asClock(state.now)),
      utc: computed(() => asUtc(state.now)),
      iso: computed(() => (state.now ? new Date(state.now).toISOString() : undefined)),
      theme: () => globalThis.mt5Theme.toggle(),
    };
  },
};

// Said at once, in words, where nobody overlooks it.
const Trouble = {
  props: { store: Object },
  template: `<div class="trouble" role="alert"><p v-if="text"><b>{{ text[0] }}</b> {{ text[1] }}</p></div>`,
  computed: {
    text() {
      const { page, link, health, now, bridge } = this.store.state;
      if (page === "lost") return ["Connection to the dashboard lost.", "What you see is old. Trying again. To stop now, at the PC: mt5-bridge stop"];
      if (page === "connecting") return ["Connecting…", ""];
      if (link.state === "refused") return ["The token is not accepted any more.", "Log out and in again."];
      if (link.state === "lost") return ["Connection to the bridge lost.", `What you see is ${asAge(now - link.since)} old (${link.detail}). Trying again. To stop now, at the PC: mt5-bridge stop`];
      if (link.state === "connecting") return ["Connecting to the bridge…", link.detail];
      const silence = health ? now - health.at : 0;
      if (silence > Math.max(10, 4 * (bridge.heartbeat_s ?? 5)) * 1000) return ["The bridge is silent.", `Its last heartbeat is ${asAge(silence)} old.`];
      if (health?.status === "not_ready" && health.detail) return ["Not ready.", health.detail];
      return null;
    },
  },
};

export const Board = {
  components: { Bar, Trouble, HaltPanel, StopReport, StopButton, HealthPanel, AccountPanel, LimitsPanel, QuotesPanel, CandlePanel, PositionsPanel, OrdersPanel, SignalsPanel, SpeedPanel, EventsPanel, JournalPanel },
  props: { person: String, version: String },
  emits: ["ready", "ask"],
  template: `
    <div class="board" :class="{stale: store.state.page !== 'connected' || store.state.link.state !== 'connected'}">
      <a class="skip" href="#main">To the content</a>
      <Bar :store="store" :person="person" />
      <Trouble :store="store" />
      <main id="main" tabindex="-1">
        <HaltPanel ref="halt" />
        <AccountPanel />
        <LimitsPanel />
        <HealthPanel />
        <StopReport />
        <QuotesPanel :chosen="symbol" @choose="choose" />
        <CandlePanel :symbol="symbol" :symbols="symbols" @choose="choose" />
        <PositionsPanel />
        <OrdersPanel />
        <SignalsPanel @look="look" />
        <SpeedPanel />
        <EventsPanel />
        <JournalPanel :wanted="wanted" id="journal" />
      </main>
      <div class="thumb"><span class="lamp" :class="haltState" aria-hidden="true"></span><span class="thumb-state">{{ haltState }}</span><StopButton @stop="halt.stop()" @confirm="halt.confirming = true" /></div>
      <p class="toast" role="status">{{ said }}</p>
    </div>`,
  setup(props, { emit, expose }) {
    const store = createStore();
    const asker = createAsker(emit);
    const said = ref("");
    const wanted = ref(null);
    const chosen = ref("");
    const halt = ref(null);
    let quiet = 0;
    provide("store", store);
    provide("asker", asker);
    provide("say", (text) => {
      said.value = text;
      clearTimeout(quiet);
      quiet = setTimeout(() => (said.value = ""), 5000);
    });
    const symbols = computed(() => [...new Set([...(store.state.bridge.symbols ?? []), ...Object.keys(store.quotes)])].sort());
    const socket = globalThis.socket;
    const gone = () => store.lost();
    const back = () => emit("ready");
    const offline = () => store.lost();
    onMounted(() => {
      socket?.on("disconnect", gone);
      socket?.on("connect", back);
      addEventListener("offline", offline);
      emit("ready");
    });
    onBeforeUnmount(() => {
      socket?.off("disconnect", gone);
      socket?.off("connect", back);
      removeEventListener("offline", offline);
      store.close();
    });
    expose({ take: store.take, answered: asker.answered });
    return {
      store, said, wanted, symbols, halt,
      symbol: computed(() => chosen.value || symbols.value[0] || ""),
      choose: (name) => (chosen.value = name),
      haltState: computed(() => store.state.halt.state),
      look(id) {
        wanted.value = { id };
        document.querySelector(".panel.journal")?.scrollIntoView({ block: "nearest" });
      },
    };
  },
};
