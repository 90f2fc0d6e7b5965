// Writes docs/train.schema.json from the tables of src/train/config. A test says when it is due.

import { writeFileSync } from 'node:fs';
import { configSchema } from '../src/train/config/config.ts';

const file = new URL('../docs/train.schema.json', import.meta.url);
writeFileSync(file, `${JSON.stringify(configSchema(), undefined, 2)}\n`);
