// TensorBoard event files with scalars.
//
// A file is a sequence of records (TFRecord): length u64, masked CRC-32C of the length, data, masked CRC-32C of the data,
// all little-endian; masked is rotr(crc, 15) + 0xa282ead8. Data is a protobuf message Event:
//   1 wall_time double · 2 step int64 · 3 file_version string · 5 summary · 7 session_log
//   Summary: 1 value (repeated);  Value: 1 tag string, 2 simple_value float;  SessionLog: 1 status (1: start)
// Sources: tensorflow/core/util/event.proto, framework/summary.proto, lib/io/record_writer.cc. A record whose session
// starts at a step makes TensorBoard drop what earlier files of the folder say from that step on, so a run that was set
// back shows one curve. It does not do: histograms, images, graphs.

import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileError } from '../io/file-errors.ts';
import { makeFolder } from '../io/make-folder.ts';
import { crc32c } from './crc32c.ts';

export interface EventWriter {
  readonly path: string;
  /** Scalars of a step, by tag (`train/loss`). */
  scalars(step: number, values: Readonly<Record<string, number>>): void;
  close(): void;
}

let files = 0;

/**
 * Opens a new event file in a folder, for steps from `firstStep` on.
 *
 * @example const events = await openEvents('run/tensorboard', 1); events.scalars(1, { 'train/loss': 4.2 });
 */
export async function openEvents(folder: string, firstStep: number): Promise<EventWriter> {
  const seconds = Math.floor(Date.now() / 1000);
  const path = join(folder, `events.out.tfevents.${seconds}.subbyte.${process.pid}.${files++}`);
  let file: number;
  try {
    await makeFolder(folder);
    file = openSync(path, 'wx');
  } catch (cause) {
    throw fileError('write', path, cause);
  }
  const write = (event: number[]) => {
    try {
      writeSync(file, record(Uint8Array.from([...time(), ...event])));
    } catch (cause) {
      throw fileError('write', path, cause);
    }
  };
  write(text(3, 'brain.Event:2'));
  write([...varint(2, firstStep), ...message(7, varint(1, 1))]);
  return {
    path,
    scalars: (step, values) => {
      const summary = Object.entries(values).flatMap(([tag, value]) =>
        message(1, [...text(1, tag), ...float(2, value)]),
      );
      write([...varint(2, step), ...message(5, summary)]);
    },
    close: () => closeSync(file),
  };
}

function record(data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(16 + data.length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, masked(bytes.subarray(0, 8)), true);
  bytes.set(data, 12);
  view.setUint32(12 + data.length, masked(data), true);
  return bytes;
}

function masked(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

// Protobuf: a key is field · 8 + wire type (0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes).

function base128(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 128) {
    bytes.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  return [...bytes, rest];
}

const varint = (field: number, value: number) => [field * 8, ...base128(value)];
const message = (field: number, bytes: readonly number[]) => [field * 8 + 2, ...base128(bytes.length), ...bytes];
const text = (field: number, value: string) => message(field, [...new TextEncoder().encode(value)]);
const float = (field: number, value: number) => [field * 8 + 5, ...new Uint8Array(Float32Array.of(value).buffer)];
const time = () => [1 * 8 + 1, ...new Uint8Array(Float64Array.of(Date.now() / 1000).buffer)];
