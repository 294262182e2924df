# muonp_embed(HEADER SOURCE NAMESPACE NAME=FILE ...): text files as constants of the program. Writes HEADER, which declares
# `extern const std::string_view NAME` in NAMESPACE, and SOURCE, which has the texts; both are made again when a file changes.
function(muonp_embed header source namespace)
  set(files "")
  foreach(pair ${ARGN})
    string(REGEX REPLACE "^[^=]*=" "" file ${pair})
    list(APPEND files ${CMAKE_CURRENT_SOURCE_DIR}/${file})
  endforeach()
  string(REPLACE ";" "|" pairs "${ARGN}")
  add_custom_command(
    OUTPUT ${header} ${source}
    COMMAND ${CMAKE_COMMAND} -DHEADER=${header} -DSOURCE=${source} -DNAMESPACE=${namespace} -DPAIRS=${pairs}
            -DFOLDER=${CMAKE_CURRENT_SOURCE_DIR} -P ${PROJECT_SOURCE_DIR}/cmake/EmbedFiles.cmake
    DEPENDS ${files} ${PROJECT_SOURCE_DIR}/cmake/EmbedFiles.cmake
    COMMENT "Embedding ${pairs}" VERBATIM)
endfunction()
