# cmake --install: the program, the libraries, the headers, and a package config for find_package(muonp).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(libraries muonp_options)
foreach(folder core dist optim models)
  get_property(floors GLOBAL PROPERTY MUONP_LIBRARIES_OF_${folder})
  list(APPEND libraries ${floors})
  install(DIRECTORY ${folder}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/muonp/${folder} FILES_MATCHING PATTERN "*.h")
endforeach()
install(TARGETS muonp RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS ${libraries} EXPORT muonp_targets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT muonp_targets NAMESPACE muonp:: FILE muonpTargets.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/muonp)

configure_package_config_file(cmake/muonpConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/muonpConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/muonp)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/muonpConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/muonpConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/muonpConfigVersion.cmake
              cmake/MuonpDependencies.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/muonp)
