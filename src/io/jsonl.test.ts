import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { openText, type TextOptions } from './datasets.ts';
import type { ChatTemplate } from './datasets-fields.ts';

const folder = mkdtempSync(join(tmpdir(), 'subbyte-jsonl-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let files = 0;
async function read(content: string | Uint8Array, options: TextOptions = {}, name = `${files++}.jsonl`) {
  writeFileSync(join(folder, name), content);
  let text = '';
  for await (const piece of (await openText(join(folder, name), options)).stream()) text += piece;
  return text;
}
const lines = (...records: unknown[]) => records.map((r) => JSON.stringify(r)).join('\n');
const template: ChatTemplate = {
  render: (messages) => messages.map(({ role, content }) => `<${role}>${content}</s>`).join(''),
};
const chat = [
  { role: 'user', content: 'Hi' },
  { role: 'assistant', content: 'Hello' },
];

describe('JSONL', () => {
  it('gives its documents in their order, an empty line between two', async () => {
    const file = lines({ text: 'one' }, { id: 2, text: '' }, { text: 'two\nlines', x: null });
    expect(await read(file)).toBe('one\n\n\n\ntwo\nlines');
    expect(await read(`\ufeff${file.replaceAll('\n', '\r\n\r\n')}\n`)).toBe('one\n\n\n\ntwo\nlines');
    expect(await read('')).toBe('');
    for (const [end, pack] of [
      ['gz', gzipSync],
      ['br', brotliCompressSync],
      ['zst', zstdCompressSync],
    ] as const)
      expect(await read(pack(file), {}, `packed.NDJSON.${end}`)).toBe('one\n\n\n\ntwo\nlines');
  });

  it('takes the field that is asked for, through objects too', async () => {
    const file = lines({ text: 'no', body: 'yes' }, { text: 'no', body: null }, { body: 'ja', text: 'no' });
    expect(await read(file, { field: 'body' })).toBe('yes\n\nja');
    const nested = lines({ a: { b: { c: 'deep' } } }, { 'a.b.c': 'flat', a: 0 });
    expect(await read(nested, { field: 'a.b.c' })).toBe('deep\n\nflat');
  });

  it('writes conversations with the chat template and nothing between them', async () => {
    const file = lines({ messages: chat }, { messages: chat.slice(0, 1) });
    expect(await read(file, { template })).toBe('<user>Hi</s><assistant>Hello</s><user>Hi</s>');
    expect(
      await read(lines({ text: 'a' }, { text: 'b' }, { messages: chat.slice(0, 1) }, { text: 'c' }), { template }),
    ).toBe('a\n\nb<user>Hi</s>c');
    const named = lines({ text: 'not this', talk: { turns: chat.slice(0, 1) } });
    expect(await read(named, { template, field: 'talk.turns' })).toBe('<user>Hi</s>');
  });

  it.each<[string, string, TextOptions, RegExp]>([
    [
      'a broken line',
      '{"text":"a"}\n{"text":',
      {},
      /^read data: line 2 is no JSON \(.+\) \(file .*x\.jsonl:2\); repair/,
    ],
    ['no object', '{"text":"a"}\n\n"b"', {}, /line 3 is no JSON object \(file .*x\.jsonl:3\)/],
    ['an array', '[{"text":"a"}]', {}, /the file is one JSON array, expected one object a line.*jq -c/],
    ['an array over lines', '[\n{"text":"a"}\n]', {}, /the file is one JSON array/],
    ['no usual field', '{"txt":"a","id":1}', {}, /no field text and no field messages, expected one of txt, id .*:1/],
    ['a field that is not there', '{"text":"a"}', { field: 'txt' }, /no field "txt", expected one of text .*"text"\?/],
    ['an inner field', '{"a":{"b":"x"}}', { field: 'a.c' }, /no field "a\.c", expected one of a\.b /],
    ['an inner field of text', '{"a":"x"}', { field: 'a.c' }, /no field "a\.c"/],
    ['an inherited field', '{"a":"x"}', { field: 'constructor' }, /no field "constructor"/],
    ['a number', '{"text":3}', {}, /field "text" holds no text, got number, expected text, or a list of messages/],
    ['another list', '{"text":[{"from":"x","value":"y"}]}', {}, /got a list of \{from, value\}, expected/],
    ['an empty list', '{"messages":[]}', {}, /got a list, expected/],
    ['half a pair', '{"text":"\\ud83d"}', {}, /holds half of a surrogate pair.*x\.jsonl:1/],
    [
      'no template',
      lines({ messages: chat }),
      {},
      /the model has no chat template.*chat_template\.jinja.*--calib-field/,
    ],
  ])('refuses %s, with file and line', async (_, content, options, message) => {
    const error = await read(content, options, 'x.jsonl').catch((e: unknown) => e);
    expect(error).toMatchObject({ name: 'SubbyteError', kind: 'user' });
    expect((error as Error).message).toMatch(message);
  });

  it('says why a template refuses a conversation', async () => {
    const picky: ChatTemplate = {
      render: () => {
        throw new Error('roles must alternate');
      },
    };
    const file = lines({ messages: chat });
    await expect(read(file, { template: picky }, 'y.jsonl')).rejects.toThrow(
      /refuses this conversation \(roles must alternate\).*y\.jsonl:1/,
    );
  });

  it('takes what begins with hf: for a data set of the hub', async () => {
    await expect(openText('hf:org/name')).rejects.toThrow(/names no data set on the hub.*hf:datasets\/org\/name/);
  });

  it('refuses a compressed Parquet file', async () => {
    await expect(read('x', {}, 'x.parquet.gz')).rejects.toThrow(/cannot be read compressed.*unpack it/);
  });
});
