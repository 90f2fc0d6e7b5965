// Which tensor gets which format.
//
// A model is a list of named tensors; a request is one default format and exceptions. Order of decision, last wins:
// the default for the decoder's linear layers, `keep` for everything else (norms, routers, embeddings, output head),
// then `--exclude` globs (keep), then `--tensor-type pattern=format` rules in the order given. Patterns are regular
// expressions searched for in the tensor's name, as in llama-quantize; a rule or glob that matches nothing is an
// error, because it is a typing mistake whose effect would otherwise be silent.

import picomatch from 'picomatch';
import { userError } from '../errors.ts';
import type { Format } from '../formats/format.ts';
import { parseFormat } from '../formats/registry.ts';

export interface TensorRule {
  pattern: string;
  format: Format;
}

export interface FormatRequest {
  format: Format;
  /** Replaces the default: the format of each tensor, undefined to keep it as stored. */
  formatOf?: (name: string) => Format | undefined;
  rules?: readonly TensorRule[];
  exclude?: readonly string[];
}

export interface NamedTensor {
  name: string;
  shape: readonly number[];
  /** One of the decoder's linear layers: what the default format applies to. */
  linear: boolean;
}

/** Parses `down_proj=q8_0`. */
export function parseTensorRule(text: string): TensorRule {
  const at = text.lastIndexOf('=');
  if (at <= 0 || at === text.length - 1) {
    throw userError({
      code: 'bad-tensor-rule',
      op: 'quantize',
      problem: 'a --tensor-type rule is pattern=format',
      got: JSON.stringify(text),
      fix: "write for example --tensor-type 'down_proj=q8_0'",
    });
  }
  const pattern = text.slice(0, at);
  try {
    new RegExp(pattern);
  } catch (cause) {
    throw userError(
      {
        code: 'bad-pattern',
        op: 'quantize',
        problem: `the pattern ${JSON.stringify(pattern)} is not a regular expression`,
        fix: 'escape special characters with a backslash',
      },
      { cause },
    );
  }
  return { pattern, format: parseFormat(text.slice(at + 1)) };
}

/** The format of every tensor; undefined keeps the tensor as it is stored. */
export function assignFormats(
  tensors: readonly NamedTensor[],
  request: FormatRequest,
): Map<string, Format | undefined> {
  const assigned = new Map<string, Format | undefined>();
  const linear = new Set(tensors.filter((t) => t.linear).map((t) => t.name));
  const byDefault = request.formatOf ?? ((name) => (linear.has(name) ? request.format : undefined));
  for (const t of tensors) assigned.set(t.name, byDefault(t.name));
  for (const glob of request.exclude ?? []) {
    const matches = picomatch(glob, { bash: true });
    apply(
      tensors,
      glob,
      '--exclude',
      (name) => matches(name) || name === glob,
      (name) => assigned.set(name, undefined),
    );
  }
  for (const rule of request.rules ?? []) {
    const expression = new RegExp(rule.pattern);
    apply(
      tensors,
      rule.pattern,
      '--tensor-type',
      (name) => expression.test(name),
      (name) => {
        assigned.set(name, rule.format);
      },
    );
  }
  return assigned;
}

function apply(
  tensors: readonly NamedTensor[],
  pattern: string,
  option: string,
  matches: (name: string) => boolean,
  set: (name: string) => void,
): void {
  let count = 0;
  for (const t of tensors) {
    if (!matches(t.name)) continue;
    set(t.name);
    count++;
  }
  if (count > 0) return;
  throw userError({
    code: 'rule-matches-nothing',
    op: 'quantize',
    problem: `${option} ${JSON.stringify(pattern)} matches no tensor of this model`,
    fix: `use part of a name such as ${JSON.stringify(tensors.find((t) => t.linear)?.name ?? tensors[0]?.name)}; \`subbyte inspect\` lists them`,
  });
}
