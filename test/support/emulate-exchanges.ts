// Exchanges among the lanes of a subgroup through workgroup memory, with barriers: they need uniform control flow of the
// whole workgroup, and 4 bytes a thread, for vectors as many again as they take.

import { replaceCalls } from './wgsl-calls.ts';

interface Exchange {
  /** Type of the value where its declaration does not tell. */
  readonly type: string;
  /** Statements that make `result`; `at(thread)` is the value of a thread of the workgroup. */
  readonly result: (at: (thread: string) => string) => string;
}

const first = 'emulated_thread / emulated_lanes * emulated_lanes';
const fold = (at: (thread: string) => string, combined: string) => `var result = ${at(first)};
  for (var i = 1u; i < emulated_lanes; i++) {
    let next = ${at(`${first} + i`)};
    result = ${combined};
  }`;

const exchanges: Readonly<Record<string, Exchange>> = {
  subgroupShuffleXor: { type: 'f32', result: (at) => `let result = ${at('emulated_thread ^ other')};` },
  subgroupShuffle: { type: 'f32', result: (at) => `let result = ${at(`${first} + other`)};` },
  subgroupMax: { type: 'u32', result: (at) => fold(at, 'max(result, next)') },
  subgroupAdd: { type: 'f32', result: (at) => fold(at, 'result + next') },
  subgroupAny: { type: 'u32', result: (at) => fold(at, 'result | next') },
};

/** Type of an expression where it is a name with a plain declaration. */
function declaredType(code: string, value: string): string | undefined {
  if (!/^\w+$/.test(value)) return undefined;
  const initial = code.match(new RegExp(`\\b(?:var|let) ${value} = (vec[234](?:<\\w+>|[fiu]))\\(`));
  const stated = code.match(new RegExp(`\\b${value}: (vec[234](?:<\\w+>|[fiu])|[fiu]32)\\b`));
  return initial?.[1] ?? stated?.[1];
}

/** A wrong guess of a type is an error of WGSL, never a wrong result. */
export function emulateExchanges(code: string, threads: number): string {
  const declarations = new Map<string, string>();
  let text = code;
  for (const [name, { type: usual, result }] of Object.entries(exchanges))
    text = replaceCalls(text, name, ({ args: [value, other] }) => {
      const type = name === 'subgroupAny' ? usual : (declaredType(code, value) ?? usual);
      const suffix = type.replace(/\W/g, '_');
      const fn = `${name.replace('subgroup', 'exchange')}_${suffix}`;
      // numbers of all types share their memory: some kernels leave little
      const stored = type.startsWith('vec') ? type : 'u32';
      const memory = type.startsWith('vec') ? `exchanged_${suffix}` : 'exchanged';
      declarations.set(memory, `var<workgroup> ${memory}: array<${stored}, ${threads}>;`);
      declarations.set(
        fn,
        `fn ${fn}(value: ${type}${other ? ', other: u32' : ''}) -> ${type} {
  workgroupBarrier();
  ${memory}[emulated_thread] = bitcast<${stored}>(value);
  workgroupBarrier();
  ${result((at) => `bitcast<${type}>(${memory}[${at}])`)}
  return result;
}`,
      );
      if (name === 'subgroupAny') return `(${fn}(select(0u, 1u, ${value})) != 0u)`;
      return `${fn}(${other ? `${value}, ${other}` : value})`;
    });
  const unknown = text.match(/\bsubgroup[A-Z]\w*(?=\()/);
  if (unknown) throw new Error(`${unknown[0]} is not emulated`);
  return [text, ...declarations.values()].join('\n');
}
