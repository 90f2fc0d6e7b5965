// Published methods as recipes: `extends: subbyte:gptq`.
//
// A preset gives the steps, and formats only where they are what the method is about. Values are the papers' unless the
// line says otherwise.

import type { RecipeOverrides } from './entries.ts';
import type { PresetName } from './preset-names.ts';

interface Preset {
  readonly doc: string;
  readonly recipe: RecipeOverrides;
}

export const presets: Readonly<Record<PresetName, Preset>> = {
  rtn: { doc: 'rounding to nearest; no text needed', recipe: { steps: ['rtn'] } },
  gptq: {
    doc: 'GPTQ, columns in order of importance within groups (GAR), scales from the original weights',
    recipe: { steps: ['gptq'] },
  },
  gptaq: {
    doc: "GPTQ that also corrects the earlier layers' error; at 2 bits an asymmetry of 0.25 to 0.5 is better",
    recipe: { steps: [{ gptq: { asymmetry: 1 } }] },
  },
  awq: { doc: 'AWQ: scaling, clipping, rounding to nearest', recipe: { steps: ['awq', 'clip'] } },
  'awq+gptq': { doc: "AWQ's scaling, then GPTQ", recipe: { steps: ['awq', 'gptq'] } },
  smoothquant: {
    doc: 'W8A8: integers, one scale a row and a token; for Llama try alpha 0.8',
    recipe: { format: 'int8-channel', activations: 'int8-token', steps: ['smooth'] },
  },
  quarot: {
    doc: 'W4A4: rotations, then GPTQ',
    recipe: { format: 'int4-channel', activations: 'int4-token', steps: ['rotate', 'gptq'] },
  },
  'mr-gptq': {
    doc: 'MXFP4 weights and activations: Hadamard blocks of 128 on all inputs, GPTQ by importance',
    recipe: {
      format: 'mxfp4',
      activations: 'mxfp4',
      steps: [{ rotate: { block: 128 } }, { gptq: { order: 'activation', staticGroups: true } }],
    },
  },
  hqq: { doc: 'zero points fitted to a sparse norm of the error; no text needed', recipe: { steps: ['hqq'] } },
  imatrix: { doc: "llama.cpp's importance matrix, measured on the calibration text", recipe: { steps: ['imatrix'] } },
};
