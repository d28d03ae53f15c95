export type { CallOptions, CallSignature, WireOptions } from './call.ts';
export { inline, type InlineClient, type InlineOptions, type InlineResult } from './inline.ts';
export { recorder, type Recorded, type RecordedReceipt, type Recorder } from './recorder.ts';
