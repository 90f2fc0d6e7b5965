// Reads what a compiled stage collects at one site.

import type { Executable } from '../../backends/backend.ts';
import { modelError } from '../../errors.ts';
import type { Site } from '../../models/stages.ts';
import { type InputStatistics, type RowSums, rowSums } from '../input-statistics.ts';
import { type InputRange, observeRange } from '../ranges/input-range.ts';

/** What a method wants to know about the input of a site. */
export interface SiteNeeds {
  gram?: boolean;
  cross?: boolean;
  moments?: boolean;
  /** Rows to keep, with `moments`. */
  sampleRows?: number;
  /** Range of the input before it is rounded: its extremes, or its histogram too. */
  range?: 'extrema' | 'histogram';
}

/** What was collected at a site; of a routed site there is one record an expert. */
export interface SiteRecord {
  readonly tokens: number;
  readonly features: number;
  /** Σ x xᵀ [K, K], valid on and above the diagonal. */
  readonly gram?: Float32Array;
  /** Σ (x' − x) xᵀ [K, K], x' the input without rounding before it. */
  readonly cross?: Float32Array;
  readonly moments?: InputStatistics;
  /** Of the whole site: experts share it. */
  readonly range?: InputRange;
}

export interface SiteObserver {
  readonly site: Site;
  /** To be called after each run. */
  chunk(): Promise<void>;
  finish(): Promise<SiteRecord[]>;
}

/** `rows`: N of a run. */
export function observeSite(site: Site, needs: SiteNeeds, executable: Executable, rows: number): SiteObserver {
  const { name, features: K } = site;
  const count = Math.max(site.experts, 1);
  const tokens = new Float64Array(count);
  const sums: RowSums[] = needs.moments ? Array.from({ length: count }, () => rowSums(K, needs.sampleRows ?? 0)) : [];
  const range = needs.range && observeRange(`${site.layers[0]}.weight`, needs.range === 'histogram');
  let chosen: Int32Array | undefined;
  let exact: Float32Array | undefined;
  let x: Float32Array | undefined;
  return {
    site,
    async chunk() {
      if (site.experts === 0) tokens[0] += rows;
      else {
        chosen = (await executable.read(`${name}.experts`, chosen)).data as Int32Array;
        for (const e of chosen) tokens[e]++;
      }
      if (range) {
        exact = (await executable.read(`${name}.exact`, exact)).data as Float32Array;
        range.add(exact);
      }
      if (sums.length === 0) return;
      x = (await executable.read(`${name}.x`, x)).data as Float32Array;
      const slots = chosen?.length ?? rows;
      for (let i = 0; i < slots; i++) {
        // a row for each choice of experts, or one for all choices of a token
        const row = Math.floor((i * x.length) / (slots * K));
        sums[chosen?.[i] ?? 0].add(x.subarray(row * K, (row + 1) * K));
      }
    },
    async finish() {
      const read = async (wanted: boolean | undefined, output: string) =>
        wanted ? ((await executable.read(output)).data as Float32Array) : undefined;
      const gram = await read(needs.gram, `${name}.sum`);
      const cross = await read(needs.cross, `${name}.crossSum`);
      const part = (all: Float32Array | undefined, e: number) => all?.subarray(e * K * K, (e + 1) * K * K);
      const records = Array.from({ length: count }, (_, e) => ({
        tokens: tokens[e],
        features: K,
        gram: part(gram, e),
        cross: part(cross, e),
        moments: sums[e]?.finish(),
        range,
      }));
      for (const [e, record] of records.entries())
        if (!allFinite(record)) throw notFinite(site.layers[(e * site.layers.length) / count]);
      return records;
    },
  };
}

/** The diagonal of the second moments tells: a square that is not finite stays so in every sum. */
function allFinite({ features: K, gram, moments }: SiteRecord): boolean {
  for (let i = 0; gram && i < K; i++) if (!Number.isFinite(gram[i * K + i])) return false;
  return moments?.meanSquare.every(Number.isFinite) ?? true;
}

function notFinite(layer: string) {
  return modelError({
    code: 'calibration-not-finite',
    op: 'calibrate',
    problem: 'the activations of the calibration text are NaN or infinite at the input of this layer',
    tensor: `${layer}.weight`,
    fix: 'the model overflows on this text: look at its weights with `subbyte inspect --stats`, or use another text',
  });
}
