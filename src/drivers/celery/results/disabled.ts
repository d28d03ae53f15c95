import { ConfigError } from '../../../errors.ts';
import type { ResultBackend } from '../brokers/broker.ts';

/** Used without a result backend. Nothing is stored. Reading a result throws an error that says what to configure. */
export class DisabledResults implements ResultBackend {
  readonly kind = 'disabled';
  readonly address = 'disabled://';

  async open(): Promise<void> {}
  async store(): Promise<void> {}
  fetch(): Promise<Buffer | undefined> {
    return refuse();
  }
  fetchMany(): Promise<readonly (Buffer | undefined)[]> {
    return refuse();
  }
  watch(): Promise<() => void> {
    return refuse();
  }
  async forget(): Promise<void> {}
  async storeGroup(): Promise<void> {}
  fetchGroup(): Promise<Buffer | undefined> {
    return refuse();
  }
  async cleanup(): Promise<void> {}
  async close(): Promise<void> {}
}

function refuse(): Promise<never> {
  return Promise.reject(
    new ConfigError('celery: there is no result backend; pass backend, such as redis://localhost/1'),
  );
}
