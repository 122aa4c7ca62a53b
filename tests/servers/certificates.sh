#!/bin/sh
# Makes in the folder $1: ca.pem, a server's certificate and key signed by it (server.pem, server.key; for
# localhost and 127.0.0.1), and other-ca.pem, which signed nothing.
set -eu
cd "$1"
for name in ca other-ca; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=invented $name" \
        -keyout "$name.key" -out "$name.pem" 2>/dev/null
done
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=localhost" \
    -keyout server.key -out server.csr 2>/dev/null
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >extensions
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions \
    -out server.pem 2>/dev/null
chmod 600 server.key
