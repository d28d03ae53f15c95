import { describe, expect, it } from 'vitest';
import { backendFor } from '../../../src/drivers/celery/connect.ts';

describe('a result backend that is not spoken', () => {
  const told = (backend: string): string => {
    try {
      backendFor({ broker: 'memory://', backend });
    } catch (error) {
      return (error as Error).message;
    }
    return 'it is spoken';
  };

  it.each([
    ['amqp://guest:secret@localhost', /supports 'amqp:\/\/'; known are redis.*Results over RabbitMQ are rpc:\/\/$/],
    ['django-db', /supports 'django-db'; known are redis.*in Django too$/],
    ['db+postgresql://me:secret@db/results', /supports 'db\+postgresql:\/\/'; known are redis.*and disabled$/],
  ])('%s is refused, with what to name instead', (backend, words) => {
    expect(told(backend)).toMatch(words);
    expect(told(backend)).not.toContain('secret');
  });
});
