// The halt state, the emergency stop and the way back.
import { computed, inject, nextTick, onBeforeUnmount, onMounted, ref, watch } from "vue";
import { asClock, asMs, asUtc, sentence, words } from "./format.js";
import { Dialog } from "./parts.js";

const HOLD_MS = 800;

// A press of a second, or a click and a confirmation: with a thumb, a mouse, or a keyboard.
export const StopButton = {
  props: { big: Boolean },
  emits: ["stop", "confirm"],
  template: `
    <button type="button" class="stop" :class="{big, holding, busy}" :disabled="disabled"
      :aria-describedby="big ? 'stop-hint' : null"
      @pointerdown="down" @pointerup="up" @pointerleave="cancel" @pointercancel="cancel" @contextmenu.prevent @click="click">
      <span class="fill" aria-hidden="true"></span>
      <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M8 2h8l6 6v8l-6 6H8l-6-6V8z" fill="currentColor"/></svg>
      <span class="label">{{ holding ? 'Keep holding…' : busy ? 'Stopping…' : 'Emergency stop' }}</span>
    </button>`,
  setup(props, { emit }) {
    const store = inject("store");
    const holding = ref(false);
    const disabled = computed(() => !store.may("stop"));
    const busy = computed(() => ["asked", "latched", "progress"].includes(store.state.stop?.phase) && store.state.stop.phase === "asked");
    let timer = 0;
    let done = false;
    function down(event) {
      if (event.button) return;
      done = false;
      holding.value = true;
      timer = setTimeout(() => {
        holding.value = false;
        done = true;
        emit("stop");
      }, HOLD_MS);
    }
    function cancel() {
      clearTimeout(timer);
      holding.value = false;
    }
    function click() {
      cancel();
      if (!done) emit("confirm");
      done = false;
    }
    onBeforeUnmount(cancel);
    return { holding, disabled, busy, down, up: cancel, cancel, click };
  },
};

const STATES = {
  active: ["Trading", "Signals are carried out as they pass the guards."],
  reducing: ["Reduce only", "Only what lowers risk is carried out."],
  halted: ["Halted", "Nothing that raises risk leaves the bridge."],
  unknown: ["Unknown", "The bridge has not said how it stands."],
};

export const HaltPanel = {
  components: { StopButton, Dialog },
  template: `
    <section class="panel halt" :class="shown" aria-labelledby="halt-title">
      <div class="state">
        <span class="lamp" aria-hidden="true"></span>
        <div>
          <h2 id="halt-title" class="state-name">{{ title }}</h2>
          <p class="dim">{{ text }}</p>
        </div>
      </div>
      <p class="why" v-if="halt.at && shown !== 'active'">
        <b>{{ halt.reason }}</b><br />
        <span class="dim">by {{ halt.by }}, <time :datetime="halt.at" :title="utc(halt.at)">{{ clock(halt.at) }}</time></span>
      </p>
      <div class="stop-place">
        <StopButton big @stop="stop()" @confirm="confirming = true" />
        <p id="stop-hint" class="dim hint">{{ may('stop') ? 'Hold for a second, or press and confirm. Alt+S from anywhere.' : 'This token may not stop: read only.' }}</p>
      </div>
      <div class="buttons">
        <button type="button" class="button" v-if="shown === 'active'" :disabled="!may('stop')" @click="reduce">Reduce only</button>
        <button type="button" class="button" v-else :disabled="!may('admin')" @click="resuming = true">Resume trading…</button>
      </div>
      <p class="problem" role="alert" v-if="problem">{{ problem }}</p>
    </section>

    <Dialog v-model="confirming" title="Stop all trading?" alarm>
      <p>Trading halts at once. By the bridge's settings, pending orders are cancelled and positions closed. It stays halted, over restarts too, until a person resumes.</p>
      <p class="dim">{{ positions.length }} positions, {{ orders.length }} pending orders.</p>
      <template #buttons>
        <button type="button" class="button" @click="confirming = false">Go back</button>
        <button type="button" class="button danger" autofocus @click="stop()">Stop now</button>
      </template>
    </Dialog>

    <Dialog v-model="resuming" title="Resume trading?">
      <form id="resume-form" @submit.prevent="resume">
        <label for="resume-reason">Why is it safe to trade again?</label>
        <input id="resume-reason" v-model.trim="reason" required maxlength="500" autofocus autocomplete="off" />
        <label class="check"><input type="checkbox" v-model="force" /> In spite of positions left and outcomes unknown</label>
        <p class="problem" role="alert" v-if="problem">{{ problem }}</p>
      </form>
      <template #buttons>
        <button type="button" class="button" @click="resuming = false">Go back</button>
        <button type="submit" form="resume-form" class="button primary" :disabled="working">Resume trading</button>
      </template>
    </Dialog>`,
  setup() {
    const store = inject("store");
    const asker = inject("asker");
    const confirming = ref(false);
    const resuming = ref(false);
    const working = ref(false);
    const reason = ref("");
    const force = ref(false);
    const problem = ref("");
    const halt = computed(() => store.state.halt);
    const shown = computed(() => (STATES[halt.value.state] ? halt.value.state : "unknown"));

    async function act(type, data) {
      problem.value = "";
      working.value = true;
      const answer = await asker.ask(type, data);
      working.value = false;
      if (!answer.success) problem.value = `${sentence(type)}: ${answer.error?.message ?? "no answer"}`;
      return answer.success;
    }
    async function stop() {
      confirming.value = false;
      problem.value = "";
      const answer = await asker.ask("emergency_stop", {}, 75);
      if (!answer.success) problem.value = `Not stopped: ${answer.error?.message}`;
    }
    async function resume() {
      if (await act("resume_trading", { reason: reason.value, force: force.value })) {
        resuming.value = false;
        reason.value = "";
        force.value = false;
      }
    }
    const key = (event) => {
      if (event.altKey && !event.ctrlKey && event.code === "KeyS" && store.may("stop")) {
        event.preventDefault();
        confirming.value = true;
      }
    };
    onMounted(() => addEventListener("keydown", key));
    onBeforeUnmount(() => removeEventListener("keydown", key));
    return {
      halt, shown, confirming, resuming, working, reason, force, problem, stop, resume,
      reduce: () => act("reduce_only", { reason: "reduce only, from the dashboard" }),
      positions: computed(() => store.state.positions),
      orders: computed(() => store.state.orders),
      title: computed(() => STATES[shown.value][0]),
      text: computed(() => STATES[shown.value][1]),
      may: store.may, clock: asClock, utc: asUtc,
    };
  },
};

const PHASES = {
  asked: "Sent, waiting for the bridge",
  latched: "Halted; cancelling and closing",
  progress: "Halted; cancelling and closing",
  done: "Done",
  failed: "Not confirmed",
};
const ROWS = { waiting: "waiting", closed: "closed", cancelled: "cancelled", survivor: "still open" };

// What the stop did, ticket by ticket.
export const StopReport = {
  template: `
    <section class="panel report" :class="stop.phase" aria-labelledby="report-title" v-if="stop && !hidden" tabindex="-1" ref="panel">
      <header>
        <h2 id="report-title">Emergency stop</h2>
        <button type="button" class="icon" @click="hidden = true" aria-label="Hide the report">✕</button>
      </header>
      <p role="status"><b>{{ phase }}.</b>
        <span v-if="stop.answer_ms != null && stop.phase !== 'failed'"> Answered in {{ ms(stop.answer_ms) }}<span v-if="stop.durable">, durable</span>.</span>
        <span v-if="stop.done_ms != null"> All told after {{ ms(stop.done_ms) }}.</span>
        {{ counts }}
      </p>
      <p class="problem" v-if="stop.detail">{{ stop.detail }}</p>
      <div class="scroll" tabindex="0" role="region" aria-label="Tickets of the stop" v-if="stop.rows.length">
        <table>
          <thead><tr><th scope="col" class="num">Ticket</th><th scope="col">What</th><th scope="col">Symbol</th><th scope="col" class="num">Lots</th><th scope="col">Now</th></tr></thead>
          <tbody>
            <tr v-for="row in stop.rows" :key="row.ticket">
              <td class="num">{{ row.ticket }}</td><td>{{ row.kind }} {{ row.what }}</td><td>{{ row.symbol }}</td>
              <td class="num">{{ row.volume ?? '–' }}</td><td><span class="pill" :class="tones[row.state]">{{ names[row.state] }}</span></td>
            </tr>
          </tbody>
        </table>
      </div>
      <p class="dim" v-else>Nothing was open.</p>
    </section>`,
  setup() {
    const store = inject("store");
    const hidden = ref(false);
    const panel = ref(null);
    const stop = computed(() => store.state.stop);
    watch(() => stop.value?.asked, async (now, before) => {
      hidden.value = false;
      if (before !== undefined || now) {
        await nextTick();
        panel.value?.scrollIntoView?.({ block: "nearest" });
      }
    });
    const counts = computed(() => {
      const told = { closed: 0, cancelled: 0, survivor: 0, waiting: 0 };
      for (const row of stop.value?.rows ?? []) told[row.state] += 1;
      return Object.entries(told).filter(([, n]) => n).map(([name, n]) => `${n} ${ROWS[name]}`).join(", ");
    });
    return {
      stop, hidden, panel, counts, names: ROWS, ms: asMs, words,
      tones: { waiting: "mute", closed: "good", cancelled: "good", survivor: "bad" },
      phase: computed(() => PHASES[stop.value?.phase] ?? ""),
    };
  },
};
