#include "tests/dist/comm/communicator_checks.h"

#include <gtest/gtest.h>

#include <cmath>

#include "dist/comm/operation.h"

namespace muonp::test {

namespace {

using core::bfloat16;
using dist::Communicator;
using dist::Reduce;

constexpr std::int64_t kCounts[] = {0, 1, 2, 3, 5, 16, 17, 1001, 2500};  // the last is not short

template <class T>
T as(float value) {
  return static_cast<T>(value);
}

template <class T>
void fill(Guarded<T>& data, int rank) {
  for (std::int64_t i = 0; i < data.count(); ++i) data[i] = as<T>(whole(rank, i));
}

float sum_over_ranks(int size, std::int64_t i) {
  float sum = 0;
  for (int r = 0; r < size; ++r) sum += whole(r, i);
  return sum;
}

template <class T>
void reduce_scatter_of(Communicator& comm, std::int64_t slice) {
  Guarded<T> data(slice * comm.size());
  fill(data, comm.rank());
  comm.reduce_scatter(data.span());
  for (std::int64_t i = comm.rank() * slice; i < (comm.rank() + 1) * slice; ++i)
    ASSERT_EQ(static_cast<float>(data[i]), sum_over_ranks(comm.size(), i)) << "element " << i << ", slice " << slice;
  ASSERT_TRUE(data.intact()) << "slice " << slice;
}

template <class T>
void all_gather_of(Communicator& comm, std::int64_t slice) {
  Guarded<T> data(slice * comm.size());
  for (std::int64_t i = 0; i < data.count(); ++i)
    data[i] = as<T>(i / std::max<std::int64_t>(slice, 1) == comm.rank() ? whole(comm.rank(), i) : -100.0f);
  comm.all_gather(data.span());
  for (std::int64_t i = 0; i < data.count(); ++i)
    ASSERT_EQ(static_cast<float>(data[i]), whole(static_cast<int>(i / slice), i)) << "element " << i;
  ASSERT_TRUE(data.intact());
}

template <class T>
void all_reduce_of(Communicator& comm, std::int64_t count) {
  for (Reduce op : {Reduce::sum, Reduce::max, Reduce::min}) {
    Guarded<T> data(count);
    fill(data, comm.rank());
    comm.all_reduce(data.span(), op);
    for (std::int64_t i = 0; i < count; ++i) {
      float expected = whole(0, i);
      for (int r = 1; r < comm.size(); ++r) {
        const float v = whole(r, i);
        expected = op == Reduce::sum ? expected + v : op == Reduce::max ? std::max(expected, v) : std::min(expected, v);
      }
      ASSERT_EQ(static_cast<float>(data[i]), expected) << "element " << i << " of " << count;
    }
    ASSERT_TRUE(data.intact());
  }
}

template <class T>
void broadcast_of(Communicator& comm, std::int64_t count) {
  for (int root = 0; root < comm.size(); ++root) {
    Guarded<T> data(count);
    fill(data, comm.rank());
    comm.broadcast(data.span(), root);
    for (std::int64_t i = 0; i < count; ++i)
      ASSERT_EQ(static_cast<float>(data[i]), whole(root, i)) << "element " << i << " from " << root;
    ASSERT_TRUE(data.intact());
  }
}

// Every pair of ranks, and each rank with itself, exchanges 0 to 3 messages of 0 to 40 elements.
template <class T>
void exchange_of(Communicator& comm) {
  const auto messages = [](int from, int to) { return (from * 3 + to * 5) % 4; };
  const auto length = [](int from, int to, int k) { return std::int64_t{(from * 7 + to * 11 + k * 13) % 41}; };
  std::vector<Guarded<T>> out, in;
  std::vector<dist::Transfer> sends, receives;
  for (int peer = comm.size() - 1; peer >= 0; --peer) {  // not in rank order: it must not matter
    for (int k = 0; k < messages(comm.rank(), peer); ++k) {
      out.emplace_back(length(comm.rank(), peer, k));
      for (std::int64_t i = 0; i < out.back().count(); ++i)
        out.back()[i] = as<T>(whole(comm.rank() * 100 + peer * 10 + k, i));
      sends.push_back({peer, out.back().span()});
    }
    for (int k = 0; k < messages(peer, comm.rank()); ++k) {
      in.emplace_back(length(peer, comm.rank(), k));
      receives.push_back({peer, in.back().span()});
    }
  }
  comm.exchange(sends, receives);
  std::size_t at = 0;
  for (int peer = comm.size() - 1; peer >= 0; --peer)
    for (int k = 0; k < messages(peer, comm.rank()); ++k, ++at) {
      for (std::int64_t i = 0; i < in[at].count(); ++i)
        ASSERT_EQ(static_cast<float>(in[at][i]), whole(peer * 100 + comm.rank() * 10 + k, i))
            << "from " << peer << ", message " << k;
      ASSERT_TRUE(in[at].intact());
    }
  comm.exchange({}, {});
}

}  // namespace

void check_reduce_scatter(Communicator& comm) {
  for (std::int64_t slice : kCounts) {
    reduce_scatter_of<float>(comm, slice);
    reduce_scatter_of<bfloat16>(comm, slice);
    reduce_scatter_of<core::float16>(comm, slice);
    reduce_scatter_of<std::int32_t>(comm, slice);
  }
}

void check_all_gather(Communicator& comm) {
  for (std::int64_t slice : kCounts) {
    all_gather_of<float>(comm, slice);
    all_gather_of<bfloat16>(comm, slice);
    all_gather_of<core::float16>(comm, slice);
    all_gather_of<std::int32_t>(comm, slice);
  }
}

void check_all_reduce(Communicator& comm) {
  for (std::int64_t count : kCounts) {
    all_reduce_of<float>(comm, count);
    all_reduce_of<bfloat16>(comm, count);
    all_reduce_of<core::float16>(comm, count);
    all_reduce_of<std::int32_t>(comm, count);
  }
}

void check_all_reduce_values(Communicator& comm) {
  const double n = comm.size();
  for (std::size_t count : {0, 1, 3}) {
    std::vector<double> sum(count, comm.rank() + 1), most(sum), least(sum);
    comm.all_reduce(sum, Reduce::sum);
    comm.all_reduce(most, Reduce::max);
    comm.all_reduce(least, Reduce::min);
    EXPECT_EQ(sum, std::vector<double>(count, n * (n + 1) / 2));
    EXPECT_EQ(most, std::vector<double>(count, n));
    EXPECT_EQ(least, std::vector<double>(count, 1));
  }
  double tenths[1] = {0.1 * (comm.rank() + 1)};
  comm.all_reduce(tenths, Reduce::sum);
  double expected = 0.1;
  for (int r = 1; r < comm.size(); ++r) expected += 0.1 * (r + 1);
  EXPECT_EQ(tenths[0], expected);  // in rank order, so to the last bit
}

void check_broadcast(Communicator& comm) {
  for (std::int64_t count : kCounts) {
    broadcast_of<float>(comm, count);
    broadcast_of<bfloat16>(comm, count);
    broadcast_of<core::float16>(comm, count);
    broadcast_of<std::int32_t>(comm, count);
  }
}

void check_exchange(Communicator& comm) {
  exchange_of<float>(comm);
  exchange_of<bfloat16>(comm);
  exchange_of<core::float16>(comm);
  exchange_of<std::int32_t>(comm);
}

void check_all_gather_bytes(Communicator& comm) {
  const auto text_of = [](int rank) {
    std::string text(static_cast<std::size_t>(rank * 1000), static_cast<char>('a' + rank));
    if (rank % 2 == 1) text[3] = '\0';
    return text;
  };
  const auto all = comm.all_gather_bytes(text_of(comm.rank()));
  ASSERT_EQ(all.size(), static_cast<std::size_t>(comm.size()));
  for (int r = 0; r < comm.size(); ++r) EXPECT_EQ(all[static_cast<std::size_t>(r)], text_of(r));
  EXPECT_EQ(comm.all_gather_bytes(""), std::vector<std::string>(static_cast<std::size_t>(comm.size())));
}

// 256 + 1 + 1 is 258 when summed in float32 and rounded once; rounded after each addition, both ones would be
// lost.
void check_bfloat16_rounds_once(Communicator& comm) {
  if (comm.size() < 3) return;
  Guarded<bfloat16> data(1);
  data[0] = bfloat16(comm.rank() == 0 ? 256.0f : comm.rank() < 3 ? 1.0f : 0.0f);
  comm.all_reduce(data.span(), Reduce::sum);
  EXPECT_EQ(static_cast<float>(data[0]), 258.0f);
}

void check_not_a_number_is_kept(Communicator& comm) {
  for (int bad = 0; bad < comm.size(); ++bad)
    for (Reduce op : {Reduce::sum, Reduce::max, Reduce::min}) {
      Guarded<float> data(3);
      for (int i = 0; i < 3; ++i) data[i] = comm.rank() == bad && i == 1 ? NAN : 1.0f;
      double value[1] = {comm.rank() == bad ? NAN : 1.0};
      comm.all_reduce(data.span(), op);
      comm.all_reduce(value, op);
      EXPECT_FALSE(std::isnan(data[0]));
      EXPECT_TRUE(std::isnan(data[1])) << "rank " << bad << ", " << dist::name_of(op);
      EXPECT_TRUE(std::isnan(value[0])) << "rank " << bad << ", " << dist::name_of(op);
    }
}

// Longer than the pieces that messages are cut into, by an odd number of elements, and cut unevenly over
// ranks.
void check_long_messages(Communicator& comm) {
  reduce_scatter_of<float>(comm, 600'011);
  const std::int64_t slice = 2'400'007;  // 9.6 MB
  Guarded<float> data(slice);
  for (std::int64_t i = 0; i < slice; ++i) data[i] = static_cast<float>((i + comm.rank()) % 1000);
  Guarded<float> from_before(slice);
  const dist::Transfer send{(comm.rank() + 1) % comm.size(), data.span()};
  const int before = (comm.rank() + comm.size() - 1) % comm.size();
  const dist::Transfer receive{before, from_before.span()};
  comm.exchange({&send, 1}, {&receive, 1});
  for (std::int64_t i = 0; i < slice; ++i) ASSERT_EQ(from_before[i], static_cast<float>((i + before) % 1000)) << i;
  ASSERT_TRUE(from_before.intact());
}

void check_everything(Communicator& comm) {
  check_reduce_scatter(comm);
  check_all_gather(comm);
  check_all_reduce(comm);
  check_all_reduce_values(comm);
  check_broadcast(comm);
  check_exchange(comm);
  check_all_gather_bytes(comm);
  check_bfloat16_rounds_once(comm);
  check_not_a_number_is_kept(comm);
  comm.barrier();
}

std::vector<std::uint32_t> bits_of_rough_sums(Communicator& comm) {
  const std::int64_t count = 3001 * comm.size();
  std::vector<std::uint32_t> bits;
  Guarded<float> scattered(count), reduced(count);
  Guarded<bfloat16> narrow(count);
  for (std::int64_t i = 0; i < count; ++i) {
    scattered[i] = reduced[i] = rough(comm.rank(), i);
    narrow[i] = bfloat16(rough(comm.rank(), i));
  }
  comm.reduce_scatter(scattered.span());
  comm.all_reduce(reduced.span().part(1, count - 1),
                  Reduce::sum);  // cut at other places than the reduce_scatter
  comm.all_reduce(narrow.span(), Reduce::sum);
  const std::int64_t slice = count / comm.size();
  for (std::int64_t i = 0; i < count; ++i) {
    const bool mine = i / slice == comm.rank();
    if (mine && i > 0) {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(scattered[i]), std::bit_cast<std::uint32_t>(reduced[i])) << i;
    }
    if (mine) bits.push_back(std::bit_cast<std::uint32_t>(scattered[i]));
    bits.push_back(std::bit_cast<std::uint32_t>(reduced[i]));
    bits.push_back(narrow[i].bits);
  }
  double value[1] = {static_cast<double>(rough(comm.rank(), 5)) * 1.1};
  comm.all_reduce(value, Reduce::sum);
  const auto wide = std::bit_cast<std::uint64_t>(value[0]);
  bits.push_back(static_cast<std::uint32_t>(wide));
  bits.push_back(static_cast<std::uint32_t>(wide >> 32));
  return bits;
}

}  // namespace muonp::test
