# The Ruby side of the interop tests: jobs that write down what they ran. Those of the same name in Node (apps/sidekiq-tasks.ts) do
# the same. REDIS_URL says where Redis is, JOBGLOT_NAMESPACE under
# which redis-namespace.
require 'logger'
require 'json'
require 'sidekiq'
require 'sidekiq/api'
require 'active_job'
require 'active_support/time'
require_relative 'values'

# Seconds between two looks at what is due, so that tests do not wait for Sidekiq's five.
if Sidekiq.respond_to?(:options)
  Sidekiq.options[:poll_interval_average] = 0.3
else
  Sidekiq.configure_server { |config| config[:poll_interval_average] = 0.3 }
end

if (namespace = ENV['JOBGLOT_NAMESPACE'])
  redis = { url: ENV['REDIS_URL'], namespace: namespace }
  Sidekiq.configure_client { |config| config.redis = redis }
  Sidekiq.configure_server { |config| config.redis = redis }
end

Time.zone = 'UTC'
ActiveJob::Base.logger = Logger.new(nil)
ActiveJob::Base.queue_adapter = :sidekiq
eval(ENV['JOBGLOT_PRELUDE']) if ENV['JOBGLOT_PRELUDE']

# What ran, where: a list that tests read.
module Noted
  def self.add(entry)
    Sidekiq.redis { |redis| redis.rpush('ran', JSON.generate(entry)) }
  end

  def note(args, more = {})
    Noted.add({ side: 'ruby', class: self.class.name, jid: jid, args: args }.merge(more))
  end
end

class Boom < StandardError; end

class RubyJob
  include Sidekiq::Worker
  include Noted
  def perform(*args)
    note(args)
  end
end

class BothJob < RubyJob; end

# Fails in its first runs, whoever ran them.
class FlakyJob
  include Sidekiq::Worker
  include Noted
  sidekiq_options backtrace: true
  def perform(failures)
    run = Sidekiq.redis { |redis| redis.incr("runs:#{jid}") }
    note([failures], run: run)
    raise Boom, "run #{run} é" if run <= failures
  end
end

class FailJob
  include Sidekiq::Worker
  include Noted
  def perform(*args)
    note(args)
    raise Boom, 'on purpose'
  end
end

class SlowJob
  include Sidekiq::Worker
  include Noted
  def perform(seconds)
    note([seconds], at: 'start')
    sleep seconds
    note([seconds], at: 'end')
  end
end

# Sidekiq 7.3 and later: notes each of `count` items, a twentieth of a second each.
if defined?(Sidekiq::IterableJob)
  class IterJob
    include Sidekiq::IterableJob
    include Noted
    def build_enumerator(count, cursor:)
      array_enumerator((0...count).to_a, cursor: cursor)
    end

    def each_iteration(item, _count)
      note([item])
      sleep 0.05
    end
  end
end

# Counts its runs by id.
class CountJob
  include Sidekiq::Worker
  def perform(milliseconds)
    sleep milliseconds / 1000.0
    Sidekiq.redis { |redis| redis.hincrby('count:ruby', jid, 1) }
  end
end

class ApplicationJob < ActiveJob::Base
  def note(args, more = {})
    entry = { side: 'ruby', class: self.class.name, id: job_id, provider: provider_job_id, executions: executions }
    Noted.add(entry.merge(args: args.map { |arg| Values.describe(arg) }, locale: locale, timezone: timezone, **more))
  end
end

class EchoJob < ApplicationJob
  def perform(*args, **keywords)
    note(args, keywords: Values.describe(keywords))
  end
end

class GreetJob < ApplicationJob
  def perform(name, times: 1)
    note([name, times])
  end
end

# Active Job itself runs it again, as a new job with the same id.
class StubbornJob < ApplicationJob
  retry_on Boom, wait: 1, attempts: 3, queue: 'again'
  discard_on ArgumentError
  def perform(kind)
    note([kind])
    raise Boom, 'again' if kind == 'retry' && executions < 3
    raise ArgumentError, 'not again' if kind == 'discard'
    raise 'on purpose' if kind == 'fail'
  end
end
