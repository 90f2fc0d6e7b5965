// One stage of a block over all calibration windows, collecting what methods ask for at its sites.
//
// Windows run in chunks; a chunk's inputs come from activation stores and its outputs go to them. Second moments are
// summed on the backend and read once at the end; rows that are needed on the host (for moments and samples) are read
// from every chunk. With a float stream beside (the asymmetric term of GPTAQ) the unrounded block runs first, on its
// own activations, and its inputs of the sites enter the rounded block's run.

import type { Backend, Executable } from '../../backends/backend.ts';
import type { ActivationOf } from '../../models/block.ts';
import type { DecoderConfig } from '../../models/config.ts';
import type { LoadedBlock } from '../../models/loaded-block.ts';
import {
  blockSites,
  buildStage,
  rowWidth,
  type Site,
  type Stage,
  type StageValue,
  stageValues,
} from '../../models/stages.ts';
import { type ActivationBudget, type ActivationStore, openActivations } from './activations.ts';
import type { Profile } from './profile.ts';
import { observeSite, type SiteNeeds, type SiteRecord } from './site-observer.ts';

/** What stays the same over a whole calibration. */
export interface PassContext {
  readonly config: DecoderConfig;
  readonly backend: Backend;
  /** Windows that run together, tokens of a window, and runs that cover all windows. */
  readonly batch: number;
  readonly tokens: number;
  readonly chunks: number;
  readonly budget: ActivationBudget;
  /** Where activations spill to. */
  readonly folder: string;
  readonly profile: Profile;
  /** Tells forward time from that of statistics, at the cost of one more chunk a stage. */
  readonly splitProfile: boolean;
  /** Called after each chunk of each stage: progress, and a turn for signals. */
  step(): Promise<void>;
}

export type StageStores = Map<StageValue, ActivationStore>;

/** A block with the activations that flow through it. */
export interface Stream {
  readonly block: LoadedBlock;
  readonly stores: StageStores;
}

export interface StagePass extends Stream {
  readonly layer: number;
  readonly stage: Stage;
  /** Whether `middle` may take the memory of `hidden`, and `next` that of `middle`. */
  readonly inPlace: boolean;
  /** Nothing is handed on: the stage runs again. */
  readonly statisticsOnly?: boolean;
  needs?(site: Site): SiteNeeds | undefined;
  /** Formats of the layers' inputs; those of the model's runtime scheme when absent. */
  readonly activation?: ActivationOf;
  /** The unrounded block, for needs with `cross`; it runs through every stage. */
  readonly float?: Stream;
}

/** Runs the stage over all chunks; the records of each site by its name. Outputs are added to the stores. */
export async function runStage(context: PassContext, pass: StagePass): Promise<Map<string, SiteRecord[]>> {
  const { config, profile } = context;
  const { layer, stage } = pass;
  const wanted = new Map<string, SiteNeeds>();
  for (const site of blockSites(config, layer).filter((s) => s.stage === stage)) {
    const needs = pass.needs?.(site);
    if (needs && (needs.gram || needs.cross || needs.moments || needs.range)) wanted.set(site.name, needs);
  }
  const crossed = [...wanted].filter(([, needs]) => needs.cross).map(([name]) => name);
  const run = await openRun(context, pass, pass, wanted);
  const float = pass.float && (await openRun(context, pass, pass.float, inputsOnly(crossed)));
  const sites = blockSites(config, layer).filter((site) => wanted.has(site.name));
  const observers = sites.map((site) =>
    observeSite(site, wanted.get(site.name) as SiteNeeds, run.executable, context.batch * context.tokens),
  );
  try {
    const start = performance.now();
    for (let chunk = 0; chunk < context.chunks; chunk++) {
      if (float) {
        await float.chunk(chunk);
        for (const name of crossed)
          run.executable.write(`${name}.float`, (await float.executable.read(`${name}.x`)).data as Float32Array);
      }
      await run.chunk(chunk);
      for (const observer of observers) await observer.chunk();
      await context.step();
    }
    const seconds = (performance.now() - start) / 1000;
    const forward =
      wanted.size === 0 ? seconds : context.splitProfile ? await forwardSeconds(context, pass) : undefined;
    if (forward === undefined) profile.add('forward and statistics', seconds);
    else {
      profile.add('forward', Math.min(forward, seconds));
      profile.add('statistics', Math.max(seconds - forward, 0));
    }
    const records = new Map<string, SiteRecord[]>();
    for (const observer of observers) records.set(observer.site.name, await observer.finish());
    run.keep();
    float?.keep();
    return records;
  } finally {
    run.dispose();
    float?.dispose();
  }
}

const inputsOnly = (names: readonly string[]) =>
  new Map(names.map((name): [string, SiteNeeds] => [name, { moments: true }]));

/** A compiled stage with its inputs and outputs in stores. */
async function openRun(context: PassContext, pass: StagePass, stream: Stream, wanted: ReadonlyMap<string, SiteNeeds>) {
  const { config, batch, tokens } = context;
  const { layer, stage, inPlace, activation } = pass;
  const { block, stores } = stream;
  const graph = buildStage(config, layer, stage, block.types, {
    batch,
    tokens,
    activation,
    collect(site) {
      const needs = wanted.get(site.name);
      if (!needs) return undefined;
      const { gram = false, cross = false, moments = false, range } = needs;
      return { gram, cross, input: moments, exact: range !== undefined };
    },
  });
  const executable = await context.backend.compile(graph, { params: block.buffers });
  const { reads, gives } = stageValues(config, layer, stage);
  const made = new Map<StageValue, ActivationStore>();
  for (const name of pass.statisticsOnly ? [] : gives) {
    const from = predecessor[name];
    const taken = inPlace && from ? stores.get(from) : undefined;
    const size = batch * tokens * rowWidth(config, layer, name);
    made.set(name, taken ?? openActivations(context.chunks, size, context.budget, context.folder));
  }
  return {
    executable,
    async chunk(chunk: number) {
      for (const name of reads) executable.write(name, (stores.get(name) as ActivationStore).read(chunk));
      await executable.run();
      for (const [name, store] of made) await store.write(chunk, (to) => executable.read(name, to));
    },
    /** Hands the outputs over. */
    keep() {
      for (const [name, store] of made) {
        const from = predecessor[name];
        if (from && stores.get(from) === store) stores.delete(from);
        stores.set(name, store);
      }
      made.clear();
    },
    dispose() {
      executable.dispose();
      for (const store of made.values()) if (![...stores.values()].includes(store)) store.dispose();
    },
  };
}

/** The input that an output replaces: nothing reads it afterwards, and both have C numbers a row. */
const predecessor: Partial<Record<StageValue, StageValue>> = { middle: 'hidden', next: 'middle' };

/** Seconds that all chunks of the stage take without collecting anything, from one chunk. */
async function forwardSeconds(context: PassContext, pass: StagePass): Promise<number> {
  const { config, batch, tokens } = context;
  const { block, stores, layer, stage, activation } = pass;
  const graph = buildStage(config, layer, stage, block.types, { batch, tokens, activation });
  const executable: Executable = await context.backend.compile(graph, { params: block.buffers });
  try {
    const start = performance.now();
    for (const name of stageValues(config, layer, stage).reads)
      executable.write(name, (stores.get(name) as ActivationStore).read(0));
    await executable.run();
    return (context.chunks * (performance.now() - start)) / 1000;
  } finally {
    executable.dispose();
  }
}
