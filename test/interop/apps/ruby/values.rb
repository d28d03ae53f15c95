# Values of Active Job: what they are in words that both languages write alike, and arbitrary ones.
require 'active_job'
require 'active_support/all'
require 'global_id'

GlobalID.app = 'shop'

# A record that is always there.
class Order
  include GlobalID::Identification
  attr_reader :id

  def initialize(id)
    @id = id
  end

  def self.find(id)
    new(id)
  end

  def ==(other)
    other.is_a?(Order) && other.id.to_s == id.to_s
  end
end

module Billing
  class Invoice < Order; end
end

Money = Struct.new(:cents, :currency)

class MoneySerializer < ActiveJob::Serializers::ObjectSerializer
  def serialize(money)
    super('cents' => money.cents, 'currency' => money.currency)
  end

  def deserialize(hash)
    Money.new(hash['cents'], hash['currency'])
  end

  private

  def klass
    Money
  end
end

ActiveJob::Serializers.add_serializers MoneySerializer

module Values
  module_function

  def describe(value)
    case value
    when nil then ['nil']
    when true, false then ['bool', value]
    when Integer then ['int', value.to_s]
    when Float then ['float', value.to_s]
    when String then ['str', value]
    when Symbol then ['sym', value.to_s]
    when Array then ['list', value.map { |item| describe(item) }]
    when ActiveSupport::HashWithIndifferentAccess then ['indifferent', value.map { |key, item| [key, describe(item)] }]
    when Hash then [Hash.ruby2_keywords_hash?(value) ? 'keywords' : 'hash', value.map { |key, item| [describe(key), describe(item)] }]
    when ActiveSupport::Duration then ['duration', describe(value.value), value.parts.to_a.map { |unit, amount| [unit.to_s, describe(amount)] }]
    when ActiveSupport::TimeWithZone then ['zoned', value.iso8601(9)]
    when Time then ['time', value.iso8601(9)]
    when DateTime then ['datetime', value.iso8601(9)]
    when Date then ['date', value.iso8601]
    when Module then ['module', value.name]
    when Order then ['record', value.to_global_id.to_s]
    when Money then ['money', describe(value.cents), value.currency]
    else raise "what is #{value.inspect}?"
    end
  end

  TEXTS = ['', 'a', 'é', '日本', '😀', "\u2028", "line\nend", '"quoted"', '\\', '</x>', "nul\0", '_aj_symbol_keys', 'gid://shop/Order/1', ':a'].freeze
  NUMBERS = [0, -1, 2**31, 2**53, -(2**53) - 1, 10**30, 0.1, -0.0, 1.0, 1e15, 1e16, 1e20, 1e-5, 0.0001, 5e-324, 123456789.125].freeze
  ZONES = ['UTC', 'Europe/Paris', 'Asia/Kolkata', 'America/New_York'].freeze
  MODULES = [String, Comparable, ActiveJob::Base, Billing::Invoice].freeze
  UNITS = %i[seconds minutes hours days weeks months years].freeze

  # The same values for the same seed.
  def arbitrary(random, depth = 3)
    kinds = %i[plain plain number text symbol time date duration module record money]
    kinds += %i[list hash indifferent] * 2 if depth.positive?
    make(kinds.sample(random: random), random, depth)
  end

  def make(kind, random, depth)
    case kind
    when :plain then [nil, true, false].sample(random: random)
    when :number then NUMBERS.sample(random: random)
    when :text then TEXTS.sample(random: random) + TEXTS.sample(random: random)
    when :symbol then key(random).to_sym
    when :time then time(random)
    when :date then Date.new(random.rand(1..9999), random.rand(1..12), random.rand(1..28))
    when :duration then duration(random)
    when :module then MODULES.sample(random: random)
    when :record then [Order, Billing::Invoice].sample(random: random).new([42, 'a b/c', 'é', '550e8400-e29b'].sample(random: random))
    when :money then Money.new(random.rand(1000), %w[EUR USD].sample(random: random))
    when :list then Array.new(random.rand(4)) { arbitrary(random, depth - 1) }
    when :hash then pairs(random, depth).transform_keys { |name| random.rand(2).zero? ? name.to_sym : name }
    when :indifferent then ActiveSupport::HashWithIndifferentAccess.new(pairs(random, depth))
    end
  end

  def pairs(random, depth)
    Array.new(random.rand(4)) { [key(random), arbitrary(random, depth - 1)] }.to_h
  end

  def key(random)
    (%w[a b c 1 10 __proto__ constructor value] + ['é', 'with space', '']).sample(random: random)
  end

  def time(random)
    moment = Time.at(random.rand(-2_000_000_000..4_000_000_000), random.rand(1_000_000_000), :nsec)
    case random.rand(4)
    when 0 then moment.utc
    when 1 then moment.getlocal(['+02:00', '-03:30', '+00:00'].sample(random: random))
    when 2 then moment.in_time_zone(ZONES.sample(random: random))
    else DateTime.new(random.rand(1..9999), 2, 3, 4, 5, Rational(random.rand(60_000), 1000), ['+0', '+5:30'].sample(random: random))
    end
  end

  def duration(random)
    UNITS.sample(random.rand(1..3), random: random).map { |unit| random.rand(1..9).public_send(unit) }.sum
  end
end
