import { describe, expect, it } from 'vitest';
import { compileTemplate, loadChatTemplate } from './chat-template.ts';
import type { Checkpoint, MetadataValue } from './checkpoint.ts';

const checkpoint = (files: Record<string, string>, metadata: [string, MetadataValue][] = []): Checkpoint => ({
  container: 'safetensors',
  location: 'folder',
  tensors: new Map(),
  metadata: new Map(metadata),
  read: () => Promise.reject(new Error()),
  readRange: () => Promise.reject(new Error()),
  sidecar: async (name) => (name in files ? new TextEncoder().encode(files[name]) : undefined),
  close: async () => {},
});
const messages = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'Hi' },
];
const rendered = async (files: Record<string, string>, metadata?: [string, MetadataValue][]) =>
  (await loadChatTemplate(checkpoint(files, metadata)))?.render(messages);
const config = (fields: object) => ({ 'tokenizer_config.json': JSON.stringify(fields) });
const loop = '{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}';

describe('chat templates', () => {
  it('come from the places where models have them, the special tokens with them', async () => {
    const expected = 'system: Be brief.</s>\nuser: Hi</s>\n';
    expect(await rendered(config({ chat_template: loop, eos_token: '</s>' }))).toBe(expected);
    expect(await rendered(config({ chat_template: loop, eos_token: { content: '</s>' } }))).toBe(expected);
    const several = [
      { name: 'tool_use', template: 'no' },
      { name: 'default', template: loop },
    ];
    expect(await rendered(config({ chat_template: several, eos_token: '</s>' }))).toBe(expected);
    const files = { ...config({ chat_template: 'old', eos_token: '</s>' }), 'chat_template.jinja': loop };
    expect(await rendered(files)).toBe(expected);
    const json = { ...config({ eos_token: '</s>' }), 'chat_template.json': JSON.stringify({ chat_template: loop }) };
    expect(await rendered(json)).toBe(expected);
    const metadata: [string, MetadataValue][] = [
      ['tokenizer.chat_template', loop],
      ['tokenizer.ggml.tokens', ['<unk>', '</s>']],
      ['tokenizer.ggml.eos_token_id', 1],
    ];
    expect(await rendered({}, metadata)).toBe(expected);
    expect(await loadChatTemplate(checkpoint({}))).toBeUndefined();
    expect(await loadChatTemplate(checkpoint(config({ bos_token: '<s>' })))).toBeUndefined();
  });

  it('in the style of ChatML and of Llama give what their models were trained on', async () => {
    // templates of Qwen2 and Llama 3; the expected strings follow the formats that these models document
    const chatml =
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    const qwen = await compileTemplate(chatml, {});
    expect(qwen.render(messages)).toBe('<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n');
    const llama3 =
      "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";
    const llama = await compileTemplate(llama3, { bos_token: '<|begin_of_text|>' });
    expect(llama.render(messages)).toBe(
      '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>',
    );
  });

  it('give the same text on every day', async () => {
    const source =
      '{%- if not date_string is defined %}{%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}{%- endif %}{{ date_string }}{{ tools is none }}';
    expect((await compileTemplate(source, {})).render(messages)).toBe('26 Jul 2024true');
    const all = await compileTemplate("{{ strftime_now('%A %a %B %b %d %m %Y %y %j %H:%I:%M:%S %p %% %Q') }}", {});
    // date -d '2024-07-26 00:00:00' with the same format
    expect(all.render([])).toBe('Friday Fri July Jul 26 07 2024 24 208 00:12:00:00 AM % %Q');
  });

  it('refuse what they refuse, and are refused when they are none', async () => {
    const picky = await compileTemplate("{{ raise_exception('only one message') }}", {});
    expect(() => picky.render(messages)).toThrow('only one message');
    await expect(compileTemplate('{% if %}', {}, 'folder')).rejects.toThrow(/no Jinja template.*\(file folder\)/);
    await expect(compileTemplate('x'.repeat(2 ** 20 + 1), {})).rejects.toThrow(/far too long/);
    await expect(loadChatTemplate(checkpoint({ 'tokenizer_config.json': '{' }))).rejects.toThrow(
      /tokenizer_config\.json is no valid JSON/,
    );
  });
});
