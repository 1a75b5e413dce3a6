{{/* Name of every object of the operator. */}}
{{- define "rheos.name" -}}
{{- $name := "rheos-operator" -}}
{{- if or (eq .Release.Name "rheos") (eq .Release.Name $name) -}}
{{- $name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "rheos.selector" -}}
app.kubernetes.io/name: rheos-operator
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "rheos.labels" -}}
{{ include "rheos.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{- define "rheos.account" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "rheos.name" .) -}}
{{- else -}}
{{- required "serviceAccount.name must name the account when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* An image: dict "image" … "tag" what a tag is when there is none. */}}
{{- define "rheos.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .tag) -}}
{{- end -}}
{{- end -}}

{{/* Labels of worker pods, and of the pods that delete savepoints: what the operator gives them. */}}
{{- define "rheos.workers" -}}
matchLabels:
  app.kubernetes.io/name: rheos-worker
  app.kubernetes.io/managed-by: rheos-operator
{{- end -}}

{{/* What the operator may do in a namespace with jobs. The verbs are those that it uses, and no more. */}}
{{- define "rheos.rules" -}}
# The jobs themselves. patch: the finalizer. They are never created and never deleted by the operator.
- apiGroups: [rheos.dev]
  resources: [streamjobs]
  verbs: [get, list, watch, patch]
# Savepoints. create and delete: periodic ones, those of an upgrade and of a deletion, and their history; patch: the finalizer.
- apiGroups: [rheos.dev]
  resources: [savepoints]
  verbs: [get, list, watch, create, delete, patch]
# What was seen of both.
- apiGroups: [rheos.dev]
  resources: [streamjobs/status, savepoints/status]
  verbs: [get, patch]
# Objects that block the deletion of their owner: clusters that enforce it ask for this right on the owner.
- apiGroups: [rheos.dev]
  resources: [streamjobs/finalizers, savepoints/finalizers]
  verbs: [update]
# Workers, and the pods that delete a savepoint. They are replaced, never changed.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
# The snapshot of each revision of a job (get, list, watch, create, delete), and the SQL that a job names: read (get), and
# watched by metadata alone, so that an edit is taken within seconds (list, watch). Rights cannot be bound to the names in
# specs; the watch is one over all, and of other ConfigMaps nothing is read or kept.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, delete]
# The headless Service of each job. It is never changed, and goes with its owner.
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch, create]
# The token of each job. It can be made again from the operator's key at any time: no Secret here is ever read.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
# The disruption budget of each job. It is never changed, and goes with its owner.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create]
# What happened to a job or a savepoint, told to people. patch: the same again is counted.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
