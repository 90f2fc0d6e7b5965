// What a reproduction hands back: claims of a paper beside what was found, corrections of the paper with their evidence,
// tables and plots. Data only; markdown.ts writes it, the command line prints it.

import type { Backend } from '../backends/backend.ts';
import type { TensorCores } from '../backends/webgpu/device.ts';
import type { PlotSpec } from '../plot/plot.ts';

/**
 * `holds`: found as stated, to the printed digits or the tolerance given. `within noise`: not that close, but no further
 * than the statistical error that is named. `does not hold`: neither.
 */
export type Verdict = 'holds' | 'within noise' | 'does not hold';

export interface Claim {
  claim: string;
  expected: string;
  found: string;
  verdict: Verdict;
  /** The tolerance, the error or the sample that the verdict rests on. */
  note?: string;
}

/** Something that the paper, its code or a copy of it has wrong. */
export interface Correction {
  printed: string;
  instead: string;
  /** How we know, with the numbers that show it. */
  evidence: string;
}

export interface Table {
  columns: readonly string[];
  rows: readonly (readonly string[])[];
}

export interface Section {
  title: string;
  text?: string;
  table?: Table;
  /** File name of the plot without its ending, and what is drawn. */
  plot?: { name: string; spec: PlotSpec };
}

export interface Report {
  title: string;
  paper: string;
  /** On what data, with what method, seeds and samples. */
  protocol: string;
  claims: Claim[];
  corrections: Correction[];
  sections: Section[];
  /** What is left to do where a study was stopped before its end, as a sentence. */
  unfinished?: string;
}

/** What a person asks of a reproduction that trains models; it checks the values itself. */
export interface StudyOptions {
  /** Name of its settings; the smallest by default. */
  readonly scale?: string;
  /** Texts, or a token file; the sample that ships when absent. */
  readonly data?: readonly string[];
  readonly validation?: readonly string[];
  readonly tokenizer?: string;
  /** How many seeds, from the context's on. */
  readonly seeds?: number;
  readonly schemes?: readonly string[];
  /** Entries of the training config in place of the scale's. */
  readonly changes?: Readonly<Record<string, unknown>>;
  /** Minutes since the start of the process after which no step begins. */
  readonly timeLimit?: number;
}

export interface ReproductionContext {
  seed: number;
  signal?: AbortSignal;
  /** Work done, of 1 in all. */
  onProgress?(fraction: number, what: string): void;
  /** Where the report goes; what a study has done is kept there too. */
  folder: string;
  options: StudyOptions;
  /** Threads to use on a CPU. */
  threads: number;
  /** The device that was asked for; the caller closes it. */
  openBackend(choices?: { readonly tensorCores?: TensorCores }): Promise<Backend>;
  /** A line for a person who waits. */
  note?(line: string): void;
}

/** One file of `reproduce/` exports one of these as its default. */
export interface Reproduction {
  name: string;
  summary: string;
  run(context: ReproductionContext): Promise<Report>;
}

const distance = (expected: number, found: number) => Math.abs(found - expected);

/**
 * A claim about a number: holds within `tolerance`, within noise within `noise`.
 *
 * @example numberClaim('crossover of 8 bits', 7.55, 7.546, { tolerance: 0.005, digits: 2 })
 */
export function numberClaim(
  claim: string,
  expected: number,
  found: number,
  options: { tolerance: number; noise?: number; print?: (value: number) => string; note?: string },
): Claim {
  const { tolerance, noise, print = (v) => String(Number(v.toPrecision(6))), note } = options;
  const far = distance(expected, found);
  // half a unit of the last printed digit is often the tolerance: leave room for the sum's own rounding
  const within = (bound: number) => far <= bound * (1 + 1e-9);
  const verdict = within(tolerance) ? 'holds' : noise !== undefined && within(noise) ? 'within noise' : 'does not hold';
  return {
    claim,
    expected: print(expected),
    found: print(found),
    verdict,
    note: note ?? `± ${print(tolerance)}${noise === undefined ? '' : `, noise ${print(noise)}`}`,
  };
}

/** A claim that a printed number is what a value rounds to. */
export function printedClaim(claim: string, printed: string, found: number, print: (v: number) => string): Claim {
  const text = print(found);
  return {
    claim,
    expected: printed,
    found: text,
    verdict: text === printed ? 'holds' : 'does not hold',
    note: 'all printed digits',
  };
}

/** A claim that something is so. */
export function factClaim(claim: string, expected: string, found: string, isSo: boolean, note?: string): Claim {
  return { claim, expected, found, verdict: isSo ? 'holds' : 'does not hold', note };
}
