// Starting and ending VMs.

import { removeImage, SmolVM } from "../../dist/index.js";
import { timed } from "../stats.mjs";

/** First starts and cold boots take seconds each; so many are enough to see where they are. */
const SLOW_SAMPLES = 5;
const [READY, CREATE, FIRST, END] = [
  "ready: create from template to first command's output",
  "create + start from template",
  "first command",
  "stop + delete",
];
const WHOLE = "full lifecycle: create, run, delete";
const FIRST_START = "first start of a configuration (makes its template)";
const COLD = "cold boot: start a stopped VM to first command's output";

export const LIFECYCLE = [
  { names: [READY, CREATE, FIRST, END], phases: ["create", "start", "stop", "delete"], measure: measureStarts },
  { names: [WHOLE], measure: measureWhole },
  { names: [FIRST_START], measure: measureFirstStarts },
  { names: [COLD], measure: measureColdBoots },
];

async function measureStarts({ stateDir, samples }) {
  const [ready, create, first, end] = [[], [], [], []];
  await (await SmolVM.create({ stateDir })).delete(); // The template is there from now on.
  for (let i = 0; i < samples; i++) {
    const [vm, createMs] = await timed(() => SmolVM.create({ stateDir }));
    const [, firstMs] = await timed(() => vm.exec(["true"], { check: true }));
    const [, endMs] = await timed(async () => {
      await vm.stop();
      await vm.delete();
    });
    create.push(createMs);
    first.push(firstMs);
    ready.push(createMs + firstMs);
    end.push(endMs);
  }
  return { [READY]: ready, [CREATE]: create, [FIRST]: first, [END]: end };
}

async function measureWhole({ stateDir, samples }) {
  const whole = [];
  await (await SmolVM.create({ stateDir })).delete();
  for (let i = 0; i < samples; i++) {
    const [, ms] = await timed(async () => {
      const vm = await SmolVM.create({ stateDir });
      await vm.run("true", { check: true });
      await vm.delete();
    });
    whole.push(ms);
  }
  return { [WHOLE]: whole };
}

/** Each time another configuration, which no template is there for: the kernel ignores the argument. */
async function measureFirstStarts({ stateDir, samples }) {
  const times = [];
  for (let i = 0; i < Math.min(samples, SLOW_SAMPLES); i++) {
    const bootArgs = `smolvm.bench=${process.pid}-${i}`;
    const [vm, ms] = await timed(() => SmolVM.create({ stateDir, bootArgs }));
    times.push(ms);
    const { startedFrom } = await vm.info();
    await vm.delete();
    if (startedFrom.kind === "template") await removeImage(startedFrom.id);
  }
  return { [FIRST_START]: times };
}

async function measureColdBoots({ stateDir, samples }) {
  const times = [];
  const vm = await SmolVM.create({ stateDir });
  for (let i = 0; i < Math.min(samples, SLOW_SAMPLES); i++) {
    await vm.stop();
    const [, ms] = await timed(async () => {
      await vm.start();
      await vm.exec(["true"], { check: true });
    });
    times.push(ms);
  }
  await vm.delete();
  return { [COLD]: times };
}
