import type { Sandbox } from '../backend.ts';
import { LABEL } from '../labels.ts';
import type { Pod } from './kube-objects.ts';
import { INSTANCE_ANNOTATION } from './labels.ts';

/** What a pod says of the sandbox that it is. */
export function sandboxOf({ metadata = {} }: Pod): Sandbox {
  const { name = '', labels = {}, annotations = {}, creationTimestamp = '' } = metadata;
  return {
    id: name,
    template: labels[LABEL.template] ?? '',
    templateHash: labels[LABEL.templateHash] ?? '',
    instance: annotations[INSTANCE_ANNOTATION] ?? labels[LABEL.instance] ?? '',
    createdAtMs: Date.parse(creationTimestamp) || 0,
  };
}
