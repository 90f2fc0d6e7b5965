// Logs as others read them: event files through protobufjs with TensorFlow's message definitions.

import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { afterAll, describe, expect, it } from 'vitest';
import { crc32c } from './crc32c.ts';
import { openRunLog, readLog } from './run-log.ts';
import { openEvents } from './tensorboard.ts';

const folder = mkdtempSync(join(tmpdir(), 'subbyte-track-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('CRC-32C of the check strings of its catalogue and of RFC 3720', () => {
  expect(crc32c(new TextEncoder().encode('123456789'))).toBe(0xe3069283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
});

// the fields of tensorflow/core/util/event.proto and framework/summary.proto that are used here
const definitions = `
syntax = "proto3";
message Event {
  double wall_time = 1;
  int64 step = 2;
  oneof what { string file_version = 3; Summary summary = 5; SessionLog session_log = 7; }
}
message SessionLog { enum SessionStatus { STATUS_UNSPECIFIED = 0; START = 1; } SessionStatus status = 1; }
message Summary {
  message Value { string tag = 1; oneof value { float simple_value = 2; } }
  repeated Value value = 1;
}`;

describe('event files', () => {
  const Event = protobuf.parse(definitions).root.lookupType('Event');

  function decode(path: string): Record<string, unknown>[] {
    const bytes = readFileSync(path);
    const unmask = (masked: number) => {
      const rotated = (masked - 0xa282ead8) >>> 0;
      return ((rotated >>> 17) | (rotated << 15)) >>> 0;
    };
    const events: Record<string, unknown>[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = Number(bytes.readBigUInt64LE(at));
      const data = bytes.subarray(at + 12, at + 12 + length);
      expect(unmask(bytes.readUInt32LE(at + 8))).toBe(crc32c(bytes.subarray(at, at + 8)));
      expect(unmask(bytes.readUInt32LE(at + 12 + length))).toBe(crc32c(data));
      events.push(Event.toObject(Event.decode(data), { longs: Number, enums: String }));
      at += 16 + length;
    }
    return events;
  }

  it('hold a version, the start of a session and scalars', async () => {
    const events = await openEvents(join(folder, 'tb'), 101);
    expect(events.path).toMatch(/events\.out\.tfevents\.\d+\./);
    events.scalars(101, { 'train/loss': 4.25, 'größe/π': -1e-30 });
    events.scalars(3_000_000_000, { 'train/loss': Number.NaN });
    events.close();
    const found = decode(events.path);
    for (const event of found) expect(Math.abs(Number(event.wallTime) - Date.now() / 1000)).toBeLessThan(60);
    expect(found.map(({ wallTime: _, ...event }) => event)).toEqual([
      { fileVersion: 'brain.Event:2' },
      { step: 101, sessionLog: { status: 'START' } },
      {
        step: 101,
        summary: {
          value: [
            { tag: 'train/loss', simpleValue: 4.25 },
            { tag: 'größe/π', simpleValue: Math.fround(-1e-30) },
          ],
        },
      },
      { step: 3_000_000_000, summary: { value: [{ tag: 'train/loss', simpleValue: Number.NaN }] } },
    ]);
  });

  it('of one process have names of their own', async () => {
    const [a, b] = [await openEvents(join(folder, 'two'), 1), await openEvents(join(folder, 'two'), 1)];
    expect(a.path).not.toBe(b.path);
    a.close();
    b.close();
    await expect(openEvents(join(a.path, 'x'), 1)).rejects.toThrow(/a part of the path is a file/);
  });
});

describe('run logs', () => {
  it('grow line by line, and lose what a resumed run does again', async () => {
    const path = join(folder, 'log', 'log.jsonl');
    const first = await openRunLog(path, 0);
    first.write({ kind: 'start' });
    for (let step = 1; step <= 5; step++) first.write({ kind: 'step', step, loss: 1 / step });
    first.close();
    appendFileSync(path, '{"kind":"step","st');
    expect(readLog(path)).toHaveLength(6);
    const second = await openRunLog(path, 3);
    second.write({ kind: 'resume', step: 3 });
    second.close();
    expect(readLog(path).map(({ kind, step }) => [kind, step])).toEqual([
      ['start', undefined],
      ['step', 1],
      ['step', 2],
      ['step', 3],
      ['resume', 3],
    ]);
    (await openRunLog(path, 0)).close();
    expect(readLog(path)).toEqual([]);
    expect(readLog(join(folder, 'none'))).toEqual([]);
  });
});
