// Few rows times four-bit groups compute what the reference does on a GPU that seems to have f16 and subgroups of 32, for
// which codes are decoded in pairs (kernels/vector-weight.ts). The same cases run without them in backend.test.ts.

import { describeEmulated } from '../../../test/support/emulated-cases.ts';
import { fourBitCases } from '../cases/few-rows.ts';

describeEmulated('few rows on emulated f16', fourBitCases);
