// Which files of a hub repository a model needs: weights in one container, and the small files beside them.

import { modelError, userError } from '../errors.ts';

const sidecars = new Set([
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'tokenizer.model',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.json',
  'chat_template.jinja',
  'hf_quant_config.json',
  'quantize_config.json',
]);

/** Pickled weights: loading one runs whatever code it holds. */
export const isPickle = (name: string) => /\.(bin|pt|pth|ckpt|pkl|pickle)$/.test(name);

const splitGguf = /^(.*)-\d{5}-of-(\d{5})\.gguf$/;

/** All parts of the split model that `name` belongs to, or `name` alone. */
export function ggufGroup(name: string, names: readonly string[]): string[] {
  const match = splitGguf.exec(name);
  if (!match) return [name];
  return names.filter((n) => {
    const other = splitGguf.exec(n);
    return other !== null && other[1] === match[1] && other[2] === match[2];
  });
}

/** What to download: `index` is to be read first, then the shards that it names. */
export interface HubSelection {
  sidecars: string[];
  weights: string[];
  index?: string;
}

/**
 * Chooses from the paths in a repository. `wanted` names one file.
 *
 * Safetensors come before GGUF; with several GGUF files the user has to choose. Pickles are refused.
 */
export function selectFiles(names: readonly string[], repository: string, wanted?: string): HubSelection {
  const small = names.filter((n) => sidecars.has(n));
  if (wanted !== undefined) return { sidecars: small, weights: wantedFiles(names, repository, wanted) };
  const top = names.filter((n) => !n.includes('/'));
  const index =
    top.find((n) => n === 'model.safetensors.index.json') ?? top.find((n) => n.endsWith('.safetensors.index.json'));
  if (index) return { sidecars: small, weights: [], index };
  const safetensors = top.filter((n) => n.endsWith('.safetensors'));
  if (safetensors.includes('model.safetensors')) return { sidecars: small, weights: ['model.safetensors'] };
  if (safetensors.length === 1) return { sidecars: small, weights: safetensors };
  const gguf = names.filter((n) => n.endsWith('.gguf'));
  const groups = new Set(gguf.map((n) => ggufGroup(n, gguf)[0]));
  if (groups.size === 1) return { sidecars: small, weights: ggufGroup(gguf[0], gguf) };
  if (groups.size > 1 || safetensors.length > 1) {
    const choices = groups.size > 1 ? [...groups] : safetensors;
    throw userError({
      code: 'hub-choose',
      op: 'open model',
      problem: `the repository holds ${choices.length} models: ${listed(choices)}`,
      file: `hf:${repository}`,
      fix: `name one, for example hf:${repository}/${choices[0]}`,
    });
  }
  throw noWeights(names.some(isPickle), `hf:${repository}`);
}

function wantedFiles(names: readonly string[], repository: string, wanted: string): string[] {
  if (isPickle(wanted)) throw noWeights(true, `hf:${repository}/${wanted}`);
  if (names.includes(wanted)) return ggufGroup(wanted, names);
  const weights = names.filter((n) => /\.(gguf|safetensors)$/.test(n));
  throw userError({
    code: 'hub-file',
    op: 'open model',
    problem: 'the repository has no such file',
    got: wanted,
    expected: weights.length > 0 ? `one of ${listed(weights)}` : 'a repository with .safetensors or .gguf files',
    file: `hf:${repository}`,
  });
}

const listed = (names: readonly string[]) => names.slice(0, 12).join(', ') + (names.length > 12 ? ', …' : '');

/** The error for a place without usable weights, local or on the hub. */
export function noWeights(pickles: boolean, file: string): Error {
  if (pickles)
    return modelError({
      code: 'pickle',
      op: 'open model',
      problem: 'the weights are pickled (.bin, .pt), and loading a pickle can run any code that its author put there',
      file,
      fix: 'use a repository with .safetensors, or convert once with Python: model.save_pretrained(folder)',
    });
  return modelError({
    code: 'no-weights',
    op: 'open model',
    problem: 'no .safetensors and no .gguf file',
    file,
    fix: 'name a folder, file or repository that holds a model',
  });
}
