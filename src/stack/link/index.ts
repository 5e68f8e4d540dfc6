/** Links of the stack's own, and what may stand before one. Those that reach a VM are in `hypervisor/link`. */

export { Capture, type CaptureOptions, type CaptureSink } from './capture.ts';
export { type CaptureFilter, CaptureFilterError, parseCaptureFilter } from './capture-filter.ts';
export { type ConditionCounts, ConditionedLink, type ConditionedLinkOptions } from './conditioned-link.ts';
export { type ConditionRule, type Conditions, ConditionsError, parseConditions } from './conditions.ts';
export { Pipe, type PipeOptions } from './pipe.ts';
export { type GuardOptions, type GuardReason, SourceGuard } from './source-guard.ts';
export { Switch, type SwitchDrops, type SwitchedLink, type SwitchOptions } from './switch.ts';
export { type FrameStreams, WebStreamsLink, type WebStreamsLinkOptions } from './web-streams.ts';
