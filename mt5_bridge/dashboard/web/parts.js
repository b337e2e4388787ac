// Small things used everywhere.
import { nextTick, ref, watch } from "vue";
import { asMoment, asUtc } from "./format.js";

// The browser's own dialog: it keeps the focus inside and gives it back.
export const Dialog = {
  props: { modelValue: Boolean, title: String, alarm: Boolean },
  emits: ["update:modelValue"],
  template: `
    <dialog ref="box" :class="{alarm}" :aria-label="title" @close="$emit('update:modelValue', false)" @click="outside">
      <div class="inside" v-if="modelValue">
        <h2>{{ title }}</h2>
        <slot></slot>
        <div class="buttons"><slot name="buttons"></slot></div>
      </div>
    </dialog>`,
  setup(props) {
    const box = ref(null);
    watch(() => props.modelValue, async (open) => {
      if (open && !box.value.open) {
        await nextTick();
        box.value.showModal();
        box.value.querySelector("[autofocus]")?.focus();
      } else if (!open && box.value.open) box.value.close();
    });
    return { box, outside: (event) => event.target === box.value && box.value.close() };
  },
};

export const When = {
  props: { at: [String, Number] },
  template: `<time :datetime="iso" :title="utc">{{ text }}</time>`,
  computed: {
    text() {
      return asMoment(this.at);
    },
    utc() {
      return asUtc(this.at);
    },
    iso() {
      return this.utc ? this.utc.replace(" UTC", "Z").replace(" ", "T") : undefined;
    },
  },
};

export const Panel = {
  props: { title: String, name: String, count: [Number, String] },
  template: `
    <section class="panel" :class="name" :aria-labelledby="name + '-title'">
      <header>
        <h2 :id="name + '-title'">{{ title }} <span class="count" v-if="count != null">{{ count }}</span></h2>
        <slot name="tools"></slot>
      </header>
      <slot></slot>
    </section>`,
};
