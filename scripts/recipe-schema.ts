// Writes docs/recipe.schema.json from the tables of src/quantize/recipe. A test says when it is due.

import { writeFileSync } from 'node:fs';
import { recipeSchema } from '../src/quantize/recipe/entries.ts';

const file = new URL('../docs/recipe.schema.json', import.meta.url);
writeFileSync(file, `${JSON.stringify(recipeSchema(), undefined, 2)}\n`);
