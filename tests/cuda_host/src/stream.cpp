#include "stream.h"

#include <sched.h>
#include <ctime>
#include <thread>

#include "cuda_runtime.h"
#include "runtime.h"

namespace cuda_host {

TicketRef Ticket::create() {
  IgnoredBySanitizer ignored;
  return TicketRef(new Ticket);
}

void Ticket::finish() {
  time_ = std::chrono::steady_clock::now();
  happens_before(this);
  done_.store(1, std::memory_order_release);
  wake_all(done_);
}

void Ticket::wait() {
  wait_while(done_, 0);
  see();
}

TicketRef submit(CUstream_st& stream, DeviceMask devices, std::unique_ptr<Task> task, std::vector<TicketRef> waits) {
  Runtime& r = runtime();
  const TicketRef ticket = Ticket::create();
  happens_before(ticket.get());  // what the host did so far is visible to the operation
  {
    Hold hold(r.lock);
    if (task) ++r.operations;
    // The legacy stream runs after all blocking streams, and they after it.
    if (stream.legacy) {
      for (const auto* set : {&r.streams, &r.closing_streams}) {
        for (CUstream_st* other : *set) {
          if (other->device == stream.device && other->blocking && other->tail) waits.push_back(other->tail);
        }
      }
    } else if (stream.blocking && r.devices[stream.device]->legacy->tail) {
      waits.push_back(r.devices[stream.device]->legacy->tail);
    }
    if (r.settings.mode == Mode::kInline && stream.tail) waits.push_back(stream.tail);  // perhaps another thread's
    stream.tail = ticket;
    if (r.settings.mode == Mode::kAsync) {
      stream.push({ticket, std::move(waits), std::move(task)});
      return ticket;
    }
  }
  for (const TicketRef& wait : waits) wait->wait();
  if (task) {
    DeviceAccess access(devices);
    task->run();
    task.reset();
  }
  ticket->finish();
  return ticket;
}

CUstream_st* find_stream(const char* function, cudaStream_t handle) {
  if (handle == nullptr) return current_device().legacy;
  {
    Hold hold(runtime().lock);
    if (runtime().streams.contains(handle)) return handle;
  }
  report(std::string(function) + ": stream " + hex(handle) + " was destroyed or never created");
  return nullptr;
}

void wait_for_device(int device) {
  std::vector<TicketRef> tails;
  {
    Runtime& r = runtime();
    Hold hold(r.lock);
    if (r.devices[device]->legacy->tail) tails.push_back(r.devices[device]->legacy->tail);
    for (const auto* set : {&r.streams, &r.closing_streams}) {
      for (CUstream_st* stream : *set) {
        if (stream->device == device && stream->tail) tails.push_back(stream->tail);
      }
    }
  }
  for (const TicketRef& tail : tails) tail->wait();
}

}  // namespace cuda_host

CUstream_st::CUstream_st(int on_device, unsigned flags, bool is_legacy, const cuda_host::Settings& settings)
    : device(on_device), legacy(is_legacy), blocking((flags & cudaStreamNonBlocking) == 0), random_(0), max_delay_us_(0) {
  if (settings.mode == cuda_host::Mode::kInline) {  // no thread
    finished_ = 1;
    return;
  }
  static std::atomic<uint64_t> count{0};
  random_ = settings.seed * 0x9e3779b97f4a7c15ULL + ++count * 0xd1b54a32d192ed03ULL;
  max_delay_us_ = settings.max_delay_us;
  // Detached, since a join would order the host after the stream; finished_ tells when it may be deleted.
  std::thread([this] { serve(); }).detach();
}

void CUstream_st::push(cuda_host::Operation operation) {
  {
    cuda_host::Hold hold(lock_);
    queue_.push_back(std::move(operation));
  }
  changes_.fetch_add(1, std::memory_order_release);
  cuda_host::wake_all(changes_);
}

void CUstream_st::close() {
  {
    cuda_host::Hold hold(lock_);
    closing_ = true;
  }
  changes_.fetch_add(1, std::memory_order_release);
  cuda_host::wake_all(changes_);
}

void CUstream_st::serve() {
  for (;;) {
    const uint32_t seen = changes_.load(std::memory_order_acquire);
    cuda_host::Operation operation;
    bool closing = false;
    {
      cuda_host::Hold hold(lock_);
      closing = closing_;
      if (!queue_.empty()) {
        operation = std::move(queue_.front());
        queue_.pop_front();
      }
    }
    if (!operation.ticket) {
      if (closing) break;
      cuda_host::wait_while(changes_, seen);
      continue;
    }
    delay();
    for (const cuda_host::TicketRef& wait : operation.waits) wait->wait();
    operation.ticket->see();
    if (operation.task) operation.task->run();
    operation.task.reset();
    operation.ticket->finish();
  }
  finished_.store(1, std::memory_order_release);
  cuda_host::wake_all(finished_);
}

void CUstream_st::delay() {
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  if (max_delay_us_ == 0 || random_ % 3 == 0) return;
  if (random_ % 3 == 1) {
    sched_yield();
    return;
  }
  const timespec time{0, static_cast<long>((random_ >> 8) % max_delay_us_) * 1000};
  nanosleep(&time, nullptr);
}
