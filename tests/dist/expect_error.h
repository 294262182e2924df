// Expectations on what is thrown: the type, and a matcher for its message.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <typeinfo>

#include "core/base/error.h"

namespace muonp::test {

template <class E, class F, class M>
void expect_error(const F& call, const M& message) {
  try {
    call();
  } catch (const E& e) {
    EXPECT_THAT(std::string(e.what()), message);
    return;
  } catch (const std::exception& e) {
    ADD_FAILURE() << "another type, " << typeid(e).name() << ": " << e.what();
    return;
  }
  ADD_FAILURE() << "nothing was thrown";
}

}  // namespace muonp::test
