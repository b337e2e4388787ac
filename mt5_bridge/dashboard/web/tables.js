// Positions and pending orders, with what can be done to them.
import { computed, inject, ref } from "vue";
import { asLots, asPrice, asProfit, words } from "./format.js";
import { Dialog, Panel, When } from "./parts.js";

const side = (thing) => (thing.side ?? (thing.type === 0 ? "buy" : "sell")).toLowerCase();

export const PositionsPanel = {
  components: { Panel, Dialog, When },
  template: `
    <Panel title="Positions" name="positions" :count="positions.length">
      <template #tools><b class="num" :class="total > 0 ? 'up' : total < 0 ? 'down' : ''">{{ positions.length ? profit(total) : '' }}</b></template>
      <div class="scroll" tabindex="0" role="region" aria-label="Positions">
        <table>
          <thead><tr>
            <th scope="col">Symbol</th><th scope="col" class="num">Lots</th><th scope="col" class="num">Open</th><th scope="col" class="num">Now</th>
            <th scope="col" class="num">Stop</th><th scope="col" class="num">Target</th><th scope="col" class="num">Profit</th>
            <th scope="col" class="wide">Since</th><th scope="col" class="wide num">Ticket</th><th scope="col"><span class="hide">Actions</span></th>
          </tr></thead>
          <tbody>
            <tr v-for="p in positions" :key="p.ticket">
              <th scope="row"><span class="side" :class="side(p)">{{ side(p) }}</span> {{ p.symbol }}</th>
              <td class="num">{{ lots(p.volume) }}</td>
              <td class="num">{{ price(p.price_open, p) }}</td><td class="num">{{ price(p.price_current, p) }}</td>
              <td class="num">{{ price(p.stop_loss, p) }}</td><td class="num">{{ price(p.take_profit, p) }}</td>
              <td class="num" :class="p.profit > 0 ? 'up' : p.profit < 0 ? 'down' : ''"><b>{{ profit(p.profit) }}</b></td>
              <td class="wide dim"><When :at="p.time_msc || p.time" /></td><td class="wide num dim">{{ p.ticket }}</td>
              <td class="acts">
                <button type="button" class="button small" :disabled="!may('trade')" @click="change(p)" :aria-label="'Modify ' + p.symbol + ' ' + p.ticket">Modify</button>
                <button type="button" class="button small" :disabled="!may('trade')" @click="close(p)" :aria-label="'Close ' + p.symbol + ' ' + p.ticket">Close</button>
              </td>
            </tr>
            <tr v-if="!positions.length"><td colspan="10" class="dim">No position is open.</td></tr>
          </tbody>
        </table>
      </div>
    </Panel>

    <Dialog v-model="closing" :title="'Close ' + (one?.symbol ?? '')">
      <form id="close-form" @submit.prevent="doClose">
        <p>{{ one && side(one) }} {{ one?.volume }} lots, ticket {{ one?.ticket }}.</p>
        <label for="close-volume">Lots to close</label>
        <input id="close-volume" type="number" v-model.number="volume" :max="one?.volume" min="0" step="any" required />
        <p class="problem" role="alert" v-if="problem">{{ problem }}</p>
      </form>
      <template #buttons>
        <button type="button" class="button" @click="closing = false">Go back</button>
        <button type="submit" form="close-form" class="button primary" :disabled="working" autofocus>Close</button>
      </template>
    </Dialog>

    <Dialog v-model="changing" :title="'Stop and target of ' + (one?.symbol ?? '')">
      <form id="change-form" @submit.prevent="doChange">
        <p>{{ one && side(one) }} {{ one?.volume }} lots, ticket {{ one?.ticket }}, opened at {{ one && price(one.price_open, one) }}. 0 removes.</p>
        <label for="change-stop">Stop loss</label>
        <input id="change-stop" type="number" v-model.number="stop" min="0" step="any" required autofocus />
        <label for="change-target">Take profit</label>
        <input id="change-target" type="number" v-model.number="target" min="0" step="any" required />
        <p class="problem" role="alert" v-if="problem">{{ problem }}</p>
      </form>
      <template #buttons>
        <button type="button" class="button" @click="changing = false">Go back</button>
        <button type="submit" form="change-form" class="button primary" :disabled="working">Set</button>
      </template>
    </Dialog>`,
  setup() {
    const store = inject("store");
    const asker = inject("asker");
    const say = inject("say");
    const [closing, changing, working] = [ref(false), ref(false), ref(false)];
    const one = ref(null);
    const [volume, stop, target, problem] = [ref(0), ref(0), ref(0), ref("")];
    const positions = computed(() => [...store.state.positions].sort((a, b) => (b.time_msc ?? 0) - (a.time_msc ?? 0)));
    const price = (value, p) => asPrice(value, store.digits(p.symbol));

    function pick(position, dialog) {
      one.value = position;
      problem.value = "";
      volume.value = position.volume;
      stop.value = position.stop_loss;
      target.value = position.take_profit;
      dialog.value = true;
    }
    async function act(type, data, dialog, done) {
      working.value = true;
      const answer = await asker.ask(type, data);
      working.value = false;
      problem.value = answer.success ? "" : (answer.error?.message ?? "no answer");
      if (answer.success) {
        dialog.value = false;
        say(done);
      }
    }
    return {
      positions, one, closing, changing, working, volume, stop, target, problem, side, price,
      may: store.may, lots: asLots, profit: asProfit,
      total: computed(() => positions.value.reduce((sum, p) => sum + (p.profit ?? 0) + (p.swap ?? 0), 0)),
      close: (p) => pick(p, closing),
      change: (p) => pick(p, changing),
      doClose() {
        const { ticket, volume: all, symbol } = one.value;
        const part = volume.value && volume.value < all ? { volume: volume.value } : {};
        act("close_position", { ticket, ...part }, closing, `Closed ${symbol} ${ticket}`);
      },
      doChange() {
        const { ticket, symbol, stop_loss, take_profit } = one.value;
        const data = { ticket };
        if (stop.value !== stop_loss) data.stop_loss = stop.value;
        if (target.value !== take_profit) data.take_profit = target.value;
        if (Object.keys(data).length === 1) changing.value = false;
        else act("modify_position", data, changing, `Changed ${symbol} ${ticket}`);
      },
    };
  },
};

export const OrdersPanel = {
  components: { Panel, Dialog, When },
  template: `
    <Panel title="Pending orders" name="orders" :count="orders.length">
      <div class="scroll" tabindex="0" role="region" aria-label="Pending orders">
        <table>
          <thead><tr><th scope="col">Symbol</th><th scope="col">Type</th><th scope="col" class="num">Lots</th><th scope="col" class="num">Price</th><th scope="col" class="wide">Since</th><th scope="col"><span class="hide">Actions</span></th></tr></thead>
          <tbody>
            <tr v-for="o in orders" :key="o.ticket">
              <th scope="row">{{ o.symbol }}</th><td>{{ words(o.order_type).toLowerCase() }}</td><td class="num">{{ lots(o.volume) }}</td>
              <td class="num">{{ price(o.price, o) }}</td><td class="wide dim"><When :at="o.time" /></td>
              <td class="acts"><button type="button" class="button small" :disabled="!may('trade')" @click="ask(o)" :aria-label="'Cancel ' + o.symbol + ' ' + o.ticket">Cancel</button></td>
            </tr>
            <tr v-if="!orders.length"><td colspan="6" class="dim">No order waits.</td></tr>
          </tbody>
        </table>
      </div>
    </Panel>
    <Dialog v-model="asking" :title="'Cancel the order of ' + (one?.symbol ?? '') + '?'">
      <p>{{ words(one?.order_type).toLowerCase() }} {{ one?.volume }} lots at {{ one && price(one.price, one) }}, ticket {{ one?.ticket }}.</p>
      <p class="problem" role="alert" v-if="problem">{{ problem }}</p>
      <template #buttons>
        <button type="button" class="button" @click="asking = false">Go back</button>
        <button type="button" class="button primary" :disabled="working" autofocus @click="cancel">Cancel the order</button>
      </template>
    </Dialog>`,
  setup() {
    const store = inject("store");
    const asker = inject("asker");
    const say = inject("say");
    const [asking, working, one, problem] = [ref(false), ref(false), ref(null), ref("")];
    return {
      asking, working, one, problem, words, lots: asLots, may: store.may,
      orders: computed(() => store.state.orders),
      price: (value, o) => asPrice(value, store.digits(o.symbol)),
      ask(order) {
        [one.value, problem.value, asking.value] = [order, "", true];
      },
      async cancel() {
        working.value = true;
        const answer = await asker.ask("cancel_order", { ticket: one.value.ticket });
        working.value = false;
        problem.value = answer.success ? "" : (answer.error?.message ?? "no answer");
        if (answer.success) {
          asking.value = false;
          say(`Cancelled ${one.value.symbol} ${one.value.ticket}`);
        }
      },
    };
  },
};
