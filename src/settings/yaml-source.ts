// YAML and JSON text as data with positions: JSON is YAML in flow style, so one reader serves both.
//
// YAML 1.2, core schema: `no` and `on` are text. Refused: duplicate keys, tags, several documents, keys that are no text,
// more than a megabyte, references that grow beyond measure.

import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type YAMLError,
} from 'yaml';
import { userError } from '../errors.ts';
import type { PathStep, Source, Subject } from './place.ts';

const mostBytes = 2 ** 20;
/** References to anchors that may be followed in all; settings have no use for more. */
const mostAliases = 1000;

export interface ParsedText {
  readonly value: unknown;
  readonly source: Source;
}

/** Data and positions of a settings text; an empty text is an empty map. `file` is for messages. */
export function parseYaml(text: string, file: string, subject: Subject): ParsedText {
  const refuse = (problem: string, at?: string, cause?: unknown) =>
    userError({ code: `${subject}-syntax`, op: subject, problem, file: at ?? file }, { cause });
  if (text.length > mostBytes) throw refuse(`the ${subject} is longer than ${mostBytes} characters`);
  const lines = new LineCounter();
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  try {
    const document = parseDocument(text, {
      lineCounter: lines,
      prettyErrors: false,
      stringKeys: true,
      version: '1.2',
      logLevel: 'error',
    });
    const wrong = document.errors[0] ?? document.warnings[0];
    if (wrong && /call stack/.test(wrong.message)) throw new RangeError(wrong.message);
    if (wrong) throw refuse(`this is no YAML that a ${subject} can use: ${reason(wrong)}`, at(wrong.pos[0]), wrong);
    const value: unknown = document.toJS({ maxAliasCount: mostAliases }) ?? {};
    return { value, source: { subject, locate: (path, part) => at(offsetOf(document, path, part)) } };
  } catch (cause) {
    if (cause instanceof RangeError) throw refuse(`the ${subject} is nested too deeply`, undefined, cause);
    if (cause instanceof ReferenceError) throw refuse(referenceProblem(cause, subject), undefined, cause);
    throw cause;
  }
}

const referenceProblem = ({ message }: ReferenceError, subject: Subject) =>
  /excessive/i.test(message)
    ? `the ${subject} refers to anchors too often`
    : `the ${subject} refers to an anchor that is not there: ${message.split(': ').pop()}`;

/** The parser's sentence without full stop, shortened. */
const reason = ({ message }: YAMLError) => message.split('\n')[0].replace(/\.$/, '').slice(0, 160);

/** Offset of a value or its key; of the nearest part around it that has a position. */
function offsetOf(document: Document, path: readonly PathStep[], part: 'value' | 'key'): number {
  let node: unknown = document.contents;
  let offset = startOf(node) ?? 0;
  for (const [i, step] of path.entries()) {
    const parent = isAlias(node) ? node.resolve(document) : node;
    let key: unknown;
    if (isMap(parent)) {
      const pair = parent.items.find((item) => (isScalar(item.key) ? item.key.value : item.key) === step);
      key = pair?.key;
      node = pair?.value;
    } else node = isSeq(parent) ? parent.items[step as number] : undefined;
    const last = i === path.length - 1;
    offset = (last && part === 'key' ? startOf(key) : undefined) ?? startOf(node) ?? startOf(key) ?? offset;
  }
  return offset;
}

const startOf = (node: unknown): number | undefined => (isNode(node) ? (node as Node).range?.[0] : undefined);
