#include "core/files/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <tuple>

#include "core/base/error.h"
#include "tests/support/file_test.h"

namespace muonp::core {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string bytes_of(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// A file as NumPy writes it: the header padded to a multiple of 64 bytes.
std::string npy(const std::string& type, const std::string& order, const std::string& shape, const std::string& values,
                int version = 1) {
  std::string header = "{'descr': '" + type + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }";
  const std::size_t prefix = version == 1 ? 10 : 12;
  while ((prefix + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string file("\x93NUMPY", 6);
  file += static_cast<char>(version);
  file += '\0';
  for (std::size_t i = 0; i < prefix - 8; ++i) file += static_cast<char>(header.size() >> (8 * i) & 0xff);
  return file + header + values;
}

class Npy : public test::FileTest {
 protected:
  std::string problem(const std::string& file_content) const {
    return test::message_of<Error>([&] { read_npy(make("G.npy", file_content)); });
  }
};

TEST_F(Npy, ReadsAMatrixOfEachFormatVersion) {
  for (const int version : {1, 2, 3}) {
    const NpyArray g = read_npy(make("G.npy", npy("<f4", "False", "(2, 3)", bytes_of({1, 2, 3, 4, 5, 6}), version)));
    EXPECT_EQ(g.shape, (Shape{2, 3}));
    EXPECT_EQ(g.values, (std::vector<float>{1, 2, 3, 4, 5, 6}));
  }
}

TEST_F(Npy, ReadsABatch) {
  EXPECT_EQ(read_npy(make("G.npy", npy("<f4", "False", "(2, 1, 2)", bytes_of({1, 2, 3, 4})))).shape, (Shape{2, 1, 2}));
}

TEST_F(Npy, KeysMayComeInAnyOrderAndSpacing) {
  const std::string header = "{\"shape\":(1,2),\"fortran_order\":False,\"descr\":\"<f4\"}\n";
  std::string file("\x93NUMPY\x01\x00", 8);
  file += static_cast<char>(header.size());
  file += '\0';
  EXPECT_EQ(read_npy(make("G.npy", file + header + bytes_of({1, 2}))).shape, (Shape{1, 2}));
}

TEST_F(Npy, WhatIsWrittenReadsBack) {
  const NpyArray array{{3, 1, 2}, {1, -0.0f, 1e-42f, 3.4e38f, 5, 6}};
  write_npy(path("Z.npy"), array);
  const NpyArray again = read_npy(path("Z.npy"));
  EXPECT_EQ(again.shape, array.shape);
  EXPECT_EQ(bytes_of(again.values), bytes_of(array.values));
  EXPECT_EQ(test::get(path("Z.npy")).size() - 24, test::get(path("Z.npy")).find('\n') + 1);
  EXPECT_EQ((test::get(path("Z.npy")).find('\n') + 1) % 64, 0u);
}

TEST_F(Npy, WritesTheBytesThatNumpyWrites) {
  write_npy(path("Z.npy"), {{2, 3}, {1, 2, 3, 4, 5, 6}});
  EXPECT_EQ(test::get(path("Z.npy")), npy("<f4", "False", "(2, 3)", bytes_of({1, 2, 3, 4, 5, 6})));
}

// What NumPy makes of the numbers 1 to n, in the type and byte order given.
template <class T>
std::string elements(std::vector<T> values, bool swapped) {
  std::string bytes;
  for (const T value : values) {
    std::string one(reinterpret_cast<const char*>(&value), sizeof(T));
    if (swapped) std::reverse(one.begin(), one.end());
    bytes += one;
  }
  return bytes;
}

TEST_F(Npy, WhatNumpyMakesIsConverted) {
  const std::vector<float> numbers = {1, -2.5f, 3, 0.25f, 5, 65504};
  const std::vector<double> doubles(numbers.begin(), numbers.end());
  const std::vector<std::uint16_t> halves = {0x3c00, 0xc100, 0x4200, 0x3400, 0x4500, 0x7bff};
  for (const bool swapped : {false, true}) {
    const char order = swapped ? '>' : '<';
    const std::string big = swapped ? "big-endian " : "";
    for (const auto& [type, bytes, name] :
         {std::tuple{std::string("f8"), elements(doubles, swapped), std::string("float64")},
          {"f4", elements(numbers, swapped), "float32"},
          {"f2", elements(halves, swapped), "float16"}}) {
      const NpyArray g = read_npy(make("G.npy", npy(order + type, "False", "(2, 3)", bytes)));
      EXPECT_EQ(g.values, numbers);
      EXPECT_EQ(g.original, type == "f4" && !swapped ? "" : big + name);
      const NpyArray turned = read_npy(make("G.npy", npy(order + type, "True", "(2, 3)", bytes)));
      EXPECT_EQ(turned.values, (std::vector<float>{1, 3, 5, -2.5f, 0.25f, 65504}));
      EXPECT_EQ(turned.original, big + name + " in Fortran order");
    }
  }
}

TEST_F(Npy, BatchesInFortranOrder) {
  std::vector<float> values(12);
  for (std::size_t i = 0; i < 12; ++i) values[i] = static_cast<float>(i);
  const NpyArray g = read_npy(make("G.npy", npy("<f4", "True", "(2, 3, 2)", bytes_of(values))));
  for (std::size_t b = 0; b < 2; ++b)
    for (std::size_t r = 0; r < 3; ++r)
      for (std::size_t c = 0; c < 2; ++c) EXPECT_EQ(g.values[(b * 3 + r) * 2 + c], static_cast<float>(b + 2 * (r + 3 * c)));
}

TEST_F(Npy, LargeArraysAreConvertedBlockByBlock) {
  std::vector<double> values(400 * 1000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i);
  const NpyArray g = read_npy(make("G.npy", npy("<f8", "False", "(400, 1000)", elements(values, false))));
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(g.values[i], static_cast<float>(i));
}

TEST_F(Npy, NumbersOutsideTheRangeOfFloat32AreNamed) {
  const auto problem_with = [&](std::vector<double> values) {
    return problem(npy("<f8", "False", "(2, 1, 2)", elements(std::move(values), false)));
  };
  EXPECT_EQ(problem_with({1, 1e-300, 3, 3.4e38}), "");  // too small beside the others to matter
  EXPECT_EQ(problem_with({0, 0, 1, 1}), "");
  EXPECT_THAT(problem_with({1, 2, 3, -1e39}), HasSubstr("G.npy: entry [1, 0, 1] is -1e+39, too large for float32"));
  EXPECT_THAT(problem_with({1, 2, 1e-40, 1e-41}), HasSubstr("G.npy: matrix 1: the largest entry is 1e-40, too small"));
  const NpyArray g = read_npy(make("G.npy", npy("<f8", "False", "(1, 1)", elements(std::vector<double>{-NAN}, false))));
  EXPECT_EQ(test::message_of<Error>([&] { require_finite(g, "G.npy"); }),
            "G.npy: entry [0, 0] is nan; every entry must be finite");
}

TEST_F(Npy, Pitfall42_OtherElementTypesAreNamed) {
  EXPECT_THAT(problem(npy("<i8", "False", "(1, 1)", "12345678")),
              AllOf(HasSubstr("G.npy"), HasSubstr("'<i8' (int64)"), HasSubstr("float16, float32 and float64 are read")));
  EXPECT_THAT(problem(npy("<c8", "False", "(1, 1)", "12345678")), HasSubstr("complex64"));
  EXPECT_THAT(problem(npy("<f16", "False", "(1, 1)", "1234567812345678")), HasSubstr("long double"));
  EXPECT_THAT(problem(npy("|V2", "False", "(1, 1)", "12")), HasSubstr("'|V2'"));
  EXPECT_THAT(problem(npy("|i1", "False", "(1, 1)", "1")), HasSubstr("'|i1'"));
  std::string structured = npy("<f4", "False", "(1, 1)", "1234");
  structured.replace(structured.find("'<f4'"), 5, "[1234");
  EXPECT_THAT(problem(structured), HasSubstr("structured"));
}

TEST_F(Npy, OtherShapesAreRefused) {
  EXPECT_THAT(problem(npy("<f4", "False", "(2,)", bytes_of({1, 2}))), HasSubstr("the shape is [2]; a matrix"));
  EXPECT_THAT(problem(npy("<f4", "False", "()", bytes_of({1}))), HasSubstr("the shape is []"));
  EXPECT_THAT(problem(npy("<f4", "False", "(1, 1, 1, 1)", bytes_of({1}))), HasSubstr("[1, 1, 1, 1]"));
  EXPECT_THAT(problem(npy("<f4", "False", "(3, 0)", "")), HasSubstr("empty array"));
}

TEST_F(Npy, DamagedFilesAreRefused) {
  const std::string good = npy("<f4", "False", "(2, 2)", bytes_of({1, 2, 3, 4}));
  EXPECT_EQ(problem(good), "");
  for (std::size_t length = 0; length < good.size(); ++length)
    EXPECT_THAT(problem(good.substr(0, length)), HasSubstr("G.npy")) << length;
  EXPECT_THAT(problem(""), HasSubstr("the file is empty"));
  EXPECT_THAT(problem("PK\x03\x04 something else"), HasSubstr("not a .npy file"));
  EXPECT_THAT(problem(good.substr(0, good.size() - 1)), HasSubstr("the file is truncated: shape [2, 2] needs more than"));
  EXPECT_THAT(problem(good + "x"), HasSubstr("1 bytes follow the values"));
  EXPECT_THAT(problem(npy("<f4", "False", "(2, 2)", bytes_of({1, 2, 3, 4}), 4)), HasSubstr("version 4"));
  EXPECT_THAT(problem(npy("<f4", "Maybe", "(2, 2)", bytes_of({1, 2, 3, 4}))), HasSubstr("header is malformed"));
  EXPECT_THAT(problem(npy("<f4", "False", "(2, -2)", bytes_of({1, 2, 3, 4}))), HasSubstr("header is malformed"));
}

TEST_F(Npy, SizesBeyondAnyFileAreTruncatedFiles) {
  EXPECT_THAT(problem(npy("<f4", "False", "(4294967296, 4294967296)", "")), HasSubstr("truncated"));
  EXPECT_THAT(problem(npy("<f4", "False", "(1, 99999999999999999999)", "")), HasSubstr("malformed"));
}

TEST_F(Npy, MissingFileAndFolder) {
  EXPECT_THAT(test::message_of<Error>([&] { read_npy(path("none.npy")); }), HasSubstr("none.npy"));
  EXPECT_THAT(test::message_of<Error>([&] { read_npy(folder()); }), HasSubstr(folder()));
}

TEST_F(Npy, NotFiniteEntriesAreNamedByIndex) {
  EXPECT_EQ(test::message_of<Error>([] { require_finite({{2, 2}, {1, 2, 3, 4}}, "G.npy"); }), "");
  EXPECT_EQ(test::message_of<Error>([] {
              require_finite({{2, 2}, {1, 2, NAN, 4}}, "G.npy");
            }),
            "G.npy: entry [1, 0] is nan; every entry must be finite");
  EXPECT_THAT(test::message_of<Error>([] {
                require_finite({{2, 1, 2}, {1, 2, 3, -INFINITY}}, "G.npy");
              }),
              HasSubstr("entry [1, 0, 1] is -inf"));
}

TEST_F(Npy, AFullDiskLeavesTheOldFile) {
  write_npy(path("Z.npy"), {{1, 1}, {7}});
  const std::string before = test::get(path("Z.npy"));
  std::string problem;
  {
    const test::FileSizeLimit limit(4096);
    problem = test::message_of<Error>([&] { write_npy(path("Z.npy"), {{64, 64}, std::vector<float>(4096)}); });
  }
  EXPECT_THAT(problem, AllOf(HasSubstr("Z.npy"), HasSubstr("File too large")));
  EXPECT_EQ(test::get(path("Z.npy")), before);
  EXPECT_EQ(files(), 1u);
}

}  // namespace
}  // namespace muonp::core
